"""Do what costs most, at the limits that the settings have, and print the stalls as JSON.

`python -m tests.jobs.stall_process BASE_URL`, with the settings in its environment; BASE_URL is a
provider's. Each line has the name of what was done and how many stalls the guard of the event loop
counted meanwhile.
"""

# Before anything else is imported that could hold on to a blocking function.
# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

import gc
import json
import sys
import uuid
from collections.abc import Callable

import django
import gevent
import orjson

django.setup()

from django.conf import settings
from django.db import transaction
from langchain_core.messages import BaseMessage, HumanMessage

from access.models import Account
from chat.chains.config import ChainConfig
from chat.models import Chain
from chat.providers.chat_model import ResilientChatModel
from jobs.models import Job
from jobs.queue.batch_finish import MAX_BATCH
from jobs.queue.failures import MAX_TRACEBACK_CHARS, Failure
from jobs.queue.transitions import Finish, finish
from jobs.worker.runner import MAX_EVENT_CHARS
from node.loop_guard import LoopGuard
from node.metrics import LOOP_STALL_SECONDS

BASE_URL = sys.argv[1]
STALL_SECONDS = 0.1
# The guard looks once more, and its report is a greenlet's.
SEEN_SECONDS = 0.4


def config(**more: object) -> ChainConfig:
    """Return a chain's configuration whose models are at the provider."""
    values = {
        "slug": "x",
        "version": 1,
        "runnable": "assistant",
        "model_name": "openai:short-summary",
    }
    return ChainConfig(**{**values, "base_url": BASE_URL, **more})  # type: ignore[arg-type]


def history() -> list[BaseMessage]:
    """Return as many messages, of as many parts in all, as a request may have."""
    count = settings.MAX_MESSAGES
    parts = settings.MAX_CONTENT_PARTS // count
    text = "x" * (settings.MAX_BODY_BYTES // settings.MAX_CONTENT_PARTS // 2)
    part: dict[str, object] = {"type": "text", "text": text}
    return [HumanMessage([part] * parts) for _ in range(count)]


def long_history() -> None:
    """Send a model the longest history."""
    MODEL.invoke(HISTORY)


def models_of_chains() -> None:
    """Build the models of ten chains; none has a client that another has."""
    for seconds in range(50, 60):
        ResilientChatModel.from_config(config(timeout_seconds=seconds))


def long_job() -> None:
    """Insert a job of texts that are as long as a body may be, and longest in ASCII."""
    text = "\N{GRINNING FACE}" * (settings.MAX_BODY_BYTES // 4)
    with transaction.atomic():
        Job.objects.create(
            account=ACCOUNT,
            chain=CHAIN,
            input=text,
            request={"text": text},
            timeout_seconds=1,
            max_attempts=1,
        )
        transaction.set_rollback(True)


def long_end() -> None:
    """End a job whose output and last events are as long as they may be, and longest in quotes."""
    text = '"' * (settings.JOB_MAX_OUTPUT_BYTES // 2 - 1)
    pieces = range(0, len(text), MAX_EVENT_CHARS)
    end = Finish(
        job_id=uuid.uuid4(),
        lease=uuid.uuid4(),
        status="succeeded",
        output=orjson.dumps(text).decode(),
        events=[
            {"kind": "tokens", "data": {"text": text[start : start + MAX_EVENT_CHARS]}}
            for start in pieces
        ],
    )
    finish([end])


def many_failures() -> None:
    """End as many jobs at once as may share a statement, each with the longest traceback."""
    failure = Failure(
        code="chain_error",
        message="x",
        is_transient=False,
        traceback='"\\' * (MAX_TRACEBACK_CHARS // 2),
    )
    finish(
        [
            Finish(job_id=uuid.uuid4(), lease=uuid.uuid4(), status="failed", failure=failure)
            for _ in range(MAX_BATCH)
        ]
    )


def stalls() -> float:
    """Return how many stalls were counted."""
    samples = {s.name: s.value for metric in LOOP_STALL_SECONDS.collect() for s in metric.samples}
    return samples["headrace_event_loop_stall_seconds_count"]


WAYS: tuple[Callable[[], None], ...] = (
    long_history,
    models_of_chains,
    long_job,
    long_end,
    many_failures,
)

if __name__ == "__main__":
    ACCOUNT, CHAIN = Account.objects.all()[0], Chain.objects.all()[0]
    MODEL, HISTORY = ResilientChatModel.from_config(config()), history()
    # Imports what is imported at a first call.
    MODEL.invoke("x")
    # As in a warm process: collections need not walk what is loaded.
    gc.collect()
    gc.freeze()
    LoopGuard(stall_seconds=STALL_SECONDS, stack_seconds=0.0).start()
    for way in WAYS:
        gevent.sleep(SEEN_SECONDS)
        before = stalls()
        gevent.spawn(way).get()
        gevent.sleep(SEEN_SECONDS)
        print(json.dumps({"way": way.__name__, "stalls": stalls() - before}))  # noqa: T201
