"""Run one attempt of a job, from the claim to its end in the database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from django.conf import settings
from django.db import DatabaseError
from langchain_core.messages import AIMessageChunk, AnyMessage, BaseMessage
from psycopg_pool import PoolTimeout

from access.errors import LIMIT_CODES
from access.limits import reserve_tokens
from chat.chains.catalog import get_chain
from chat.inputs.encoding import encode
from chat.inputs.openai_answers import (
    answer_extras,
    answer_text,
    answer_tool_calls,
    finish_reason,
)
from chat.inputs.tool_calls import ToolCallPieces
from chat.running.execution import Call, Heartbeat, stream
from chat.running.run import Caller, Progress, Run, current_caller
from config.api.errors import is_database_down
from config.text import storable
from jobs import metrics
from jobs.errors import OutputTooLarge
from jobs.inputs import read_input
from jobs.queue import transitions
from jobs.queue.batch_finish import FINISH_BATCHER
from jobs.queue.claims import ClaimedJob
from jobs.queue.deferrals import deferral_seconds, may_be_deferred
from jobs.queue.failures import Failure, classify, retry_delay_seconds
from jobs.queue.transitions import Event, Finish, Tokens
from jobs.worker.checkpoints import JobModelCalls
from scaling.connections import release_connections
from scaling.replicas.read_context import ReadContext

logger = logging.getLogger(__name__)

DATABASE_RETRY_SECONDS = 0.5
MAX_PROGRESS_MESSAGE_CHARS = 500
# Longer texts become several events, so that followers do not get megabytes at once.
MAX_EVENT_CHARS = 16_384
UNWRITABLE = Failure(
    code="chain_error", message="The chain's result could not be stored.", is_transient=False
)


class RunningAttempt:
    """An attempt under way. To its chain it is the client, which may be gone at any time.

    `stop` may be called from anywhere in the worker; the first reason counts: `cancelled` (by the
    client), `released` (the worker stops), `lost` (the worker no longer holds the lease).
    """

    def __init__(self, claimed: ClaimedJob) -> None:
        self.claimed = claimed
        self.run: Run | None = None
        self.stop_reason = ""
        self.is_gone = False
        self._on_gone: Callable[[], None] | None = None

    def stop(self, reason: str) -> None:
        """Abort the chain and the call that it waits for; does not wait for its end."""
        if self.stop_reason:
            return
        self.stop_reason = reason
        self.is_gone = True
        if self._on_gone is not None:
            self._on_gone()

    @contextmanager
    def watch(self, on_gone: Callable[[], None]) -> Iterator[None]:
        """Call `on_gone` when the attempt is stopped (chat.running.execution.Client)."""
        self._on_gone = on_gone
        if self.is_gone:
            on_gone()
        try:
            yield
        finally:
            self._on_gone = None


def run_attempt(attempt: RunningAttempt) -> str:
    """Run the chain and write its result; return the outcome.

    Never raises. While the database is unavailable the result is held and written later; if by
    then the lease is lost, it is dropped.
    """
    claimed = attempt.claimed
    started = time.monotonic()
    metrics.WAIT_SECONDS.observe(claimed.waited_seconds)
    events = EventBuffer(attempt)
    try:
        output = _run_chain(attempt, events)
        outcome = _until_written(
            lambda: _finish(attempt, events, status="succeeded", output=output.decode())
        )
    # Any error of the chain's own code, or of loading it, ends this attempt alone.
    except Exception as error:
        outcome = _write_failure(attempt, events, error)
    finally:
        release_connections()
    metrics.ATTEMPTS.labels(chain=claimed.chain_slug, outcome=outcome).inc()
    metrics.RUN_SECONDS.labels(chain=claimed.chain_slug).observe(time.monotonic() - started)
    return outcome


def _write_failure(attempt: RunningAttempt, events: EventBuffer, error: Exception) -> str:
    try:
        failure = classify(error)
        return _until_written(lambda: _stopped_or_failed(attempt, events, failure))
    # A chain's result may be one that cannot be written; the job must end all the same.
    except Exception:
        logger.exception("job %s: its failure could not be written", attempt.claimed.job_id.hex)
    try:
        return _until_written(lambda: _finish(attempt, None, status="failed", failure=UNWRITABLE))
    # The next heartbeats find that no attempt of this worker has its lease.
    except Exception:
        logger.exception("job %s could not be ended", attempt.claimed.job_id.hex)
        return "lost"


def _run_chain(attempt: RunningAttempt, events: EventBuffer) -> bytes:
    claimed = attempt.claimed
    if claimed.api_key_id is not None:
        # Only a check: tokens are reserved for single calls.
        reserve_tokens(
            key_id=claimed.api_key_id,
            tokens_per_day=claimed.tokens_per_day,
            tokens=0,
            waits_for_others=False,
        ).finish(0)
    chain = get_chain(claimed.chain_slug)
    answers = JobModelCalls(claimed)
    current_caller.set(Caller(account_id=claimed.account_id))
    run = attempt.run = Run(
        timeout_seconds=claimed.timeout_seconds, options=claimed.options, answers=answers
    )
    value = read_input(chain, claimed.input)
    read_context = ReadContext(rereads_positions=True)
    read_context.bind_account(
        claimed.account_id.hex, reads_replicas=True, min_position=claimed.position
    )
    call = Call(chain=chain, value=value, run=run, api="jobs", read_context=read_context)
    items = stream(
        call,
        attempt,
        beat_seconds=settings.JOB_EVENT_FLUSH_SECONDS,
        is_unary=not _streams_text(chain.runnable),
    )
    output: Any = None
    calls = ToolCallPieces()
    try:
        for item in items:
            for value in [] if isinstance(item, Heartbeat) else item.values:
                if isinstance(value, AIMessageChunk) and value.tool_call_chunks:
                    # Joined by their indexes, which some providers give to two calls.
                    value.tool_call_chunks = calls.read(value)
                output = value if output is None else output + value
                events.add_chunk(value)
                # Refused before the end: the rest need neither be paid for nor held.
                if events.chars > settings.JOB_MAX_OUTPUT_BYTES:
                    raise OutputTooLarge(settings.JOB_MAX_OUTPUT_BYTES)
            events.flush_if_due(run)
    finally:
        items.close()
        answers.settle(run.billed_tokens())
    encoded = encode(_as_output(output))
    if len(encoded) > settings.JOB_MAX_OUTPUT_BYTES:
        raise OutputTooLarge(settings.JOB_MAX_OUTPUT_BYTES)
    return encoded


class EventBuffer:
    """Collects tokens and progress, and writes them as events every JOB_EVENT_FLUSH_SECONDS."""

    def __init__(self, attempt: RunningAttempt) -> None:
        self.chars = 0
        self._attempt = attempt
        self._text: list[str] = []
        self._written_progress: object = None
        self._flushed_at = time.monotonic()

    def add_chunk(self, value: Any) -> None:
        """Add a piece of text."""
        if isinstance(value, str | BaseMessage) and (text := answer_text(value)):
            self._text.append(text)
            self.chars += len(text)

    def flush_if_due(self, run: Run) -> None:
        """Write the pending events if the last write is long enough ago."""
        if time.monotonic() - self._flushed_at >= settings.JOB_EVENT_FLUSH_SECONDS:
            self.flush(run)

    def flush(self, run: Run) -> None:
        """Write the pending events; a lost lease stops the attempt."""
        self._flushed_at = time.monotonic()
        progress = run.progress
        if not (events := self.pending(progress)):
            return
        claimed = self._attempt.claimed
        try:
            is_ours = transitions.add_events(
                job_id=claimed.job_id, lease=claimed.lease, events=events
            )
        except (DatabaseError, PoolTimeout) as error:
            # They stay pending, and are written with the next ones.
            logger.warning("job %s: events not written: %s", claimed.job_id.hex, error)
            return
        finally:
            release_connections()
        self._written_progress = progress
        self._text.clear()
        if not is_ours:
            self._attempt.stop("lost")

    def pending(self, progress: Progress | None) -> list[Event]:
        """Return the events that are not yet written."""
        events: list[Event] = []
        if progress is not None and progress is not self._written_progress:
            message = storable(progress.message)[:MAX_PROGRESS_MESSAGE_CHARS]
            data = {"completed": progress.completed, "total": progress.total, "message": message}
            events.append({"kind": "progress", "data": data})
        text = "".join(self._text)
        for start in range(0, len(text), MAX_EVENT_CHARS):
            piece = text[start : start + MAX_EVENT_CHARS]
            events.append({"kind": "tokens", "data": {"text": piece}})
        return events


def _stopped_or_failed(attempt: RunningAttempt, events: EventBuffer, failure: Failure) -> str:
    claimed = attempt.claimed
    match attempt.stop_reason:
        case "lost":
            return "lost"
        case "cancelled":
            return _finish(attempt, events, status="cancelled")
        case "released":
            return _release(claimed, outcome="released", is_counted=False)
    if failure.code == LIMIT_CODES["tokens_per_day"] and may_be_deferred(claimed):
        return _release(
            claimed,
            outcome="deferred",
            is_counted=False,
            delay_seconds=deferral_seconds(failure.retry_after_seconds),
            failure=failure,
        )
    outcome = "timed_out" if failure.code == "job_timeout" else "failed"
    if failure.is_transient and claimed.attempt < claimed.max_attempts:
        delay = retry_delay_seconds(claimed.attempt, failure.retry_after_seconds)
        return _release(
            claimed, outcome=outcome, is_counted=True, delay_seconds=delay, failure=failure
        )
    return _finish(attempt, events, status="failed", outcome=outcome, failure=failure)


def _finish(
    attempt: RunningAttempt, events: EventBuffer | None, *, status: str, **more: Any
) -> str:
    claimed, run = attempt.claimed, attempt.run
    finish = Finish(
        job_id=claimed.job_id,
        lease=claimed.lease,
        status=status,
        tokens=_tokens(attempt),
        events=events.pending(run.progress) if run is not None and events is not None else (),
        **more,
    )
    if not FINISH_BATCHER.write(finish):
        return "lost"
    outcome = finish.outcome or status
    metrics.ENDED.labels(chain=claimed.chain_slug, outcome=outcome).inc()
    return outcome


def _release(claimed: ClaimedJob, *, outcome: str, **more: Any) -> str:
    written = transitions.release(
        job_id=claimed.job_id, lease=claimed.lease, outcome=outcome, **more
    )
    return outcome if written else "lost"


def _until_written(write: Callable[[], str]) -> str:
    """Return `write()`, repeated while the database is unavailable; raises its other errors."""
    while True:
        try:
            return write()
        except (DatabaseError, PoolTimeout) as error:
            if not is_database_down(error):
                raise
            gevent.sleep(DATABASE_RETRY_SECONDS)
        finally:
            release_connections()


def _tokens(attempt: RunningAttempt) -> Tokens:
    if attempt.run is None or not attempt.run.usage.is_reported:
        return Tokens()
    usage = attempt.run.usage
    return Tokens(prompt=usage.prompt_tokens, completion=usage.completion_tokens)


def _streams_text(runnable: Any) -> bool:
    """Return whether the chunks of a chain are pieces of one text; others cannot be joined."""
    try:
        declared = runnable.OutputType
    # LangChain cannot infer the type of every runnable.
    except TypeError:
        return False
    if declared is str or declared == AnyMessage:
        return True
    return isinstance(declared, type) and issubclass(declared, BaseMessage)


def _as_output(output: Any) -> Any:
    """Return text as it is, a message as OpenAI has it, and anything else as LangServe does.

    `finish_reason` of a message that was cut off is length or content_filter.
    """
    if not isinstance(output, BaseMessage):
        return output
    message: dict[str, Any] = {"role": "assistant", "content": answer_text(output)}
    message |= answer_extras(output)
    if calls := answer_tool_calls(output):
        message["tool_calls"] = calls
    if (reason := finish_reason(output)) in ("length", "content_filter"):
        message["finish_reason"] = reason
    return message
