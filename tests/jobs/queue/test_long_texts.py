"""Outputs, events and errors of megabytes reach PostgreSQL as they are, beside their statement."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.db import connection

from jobs.models import Event, Job
from jobs.queue import transitions
from jobs.queue.failures import Failure
from jobs.queue.transitions import Finish
from scaling.replicas.backend.cursors import casts_all
from scaling.replicas.backend.json_values import LONG
from tests.support.rows import make_job
from tests.support.statements import sent_by

pytestmark = pytest.mark.django_db

TEXTS = {
    "ascii": "x" * (LONG + 1),
    "emoji": "\N{GRINNING FACE}" * (LONG + 1),
    "quotes": "'\"\\\\%s%%$1{}" * LONG,
    "line feeds": "\n\t\u2028\\u0000" * LONG,
}
STATEMENTS = {
    "finish": transitions.FINISH,
    "release": transitions.RELEASE,
    "add_events": transitions.ADD_EVENTS,
}


@pytest.fixture
def quoted() -> Iterator[list[bytes]]:
    """The statements of the test that had their values written into them, if they are long."""
    found: list[bytes] = []

    def look(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        sent = sent_by(context["cursor"])
        if len(sent) > LONG:
            found.append(sent[:80])
        return result

    with connection.execute_wrapper(look):
        yield found


def running() -> tuple[Job, uuid.UUID]:
    lease = uuid.uuid4()
    return make_job("running", lease=lease, output=None, last_event=1), lease


def failure(text: str) -> Failure:
    return Failure(code="chain_error", message=text, is_transient=True, traceback=text)


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_server_can_find_out_the_type_of_each_parameter(name: str) -> None:
    assert casts_all(STATEMENTS[name])


@pytest.mark.parametrize("kind", TEXTS)
def test_long_outputs_and_events_come_back_as_they_went(kind: str, quoted: list[bytes]) -> None:
    text = TEXTS[kind]
    long, short = running(), running()
    ends = [
        Finish(
            job_id=job.pk,
            lease=lease,
            status="succeeded",
            output=orjson.dumps(output).decode(),
            events=[{"kind": "tokens", "data": {"text": output}}],
        )
        for (job, lease), output in ((long, text), (short, "it's"))
    ]
    assert transitions.finish(ends) == {long[0].pk, short[0].pk}
    assert not quoted
    for job, output in ((long[0], text), (short[0], "it's")):
        job.refresh_from_db()
        assert (job.status, job.output, job.last_event) == ("succeeded", output, 3)
        assert Event.objects.get(job=job, kind="tokens").data == {"text": output}


@pytest.mark.parametrize("kind", TEXTS)
def test_long_events_of_a_running_job_come_back_as_they_went(
    kind: str, quoted: list[bytes]
) -> None:
    job, lease = running()
    progress = {"completed": 3, "total": 4, "message": "'"}
    events: list[transitions.Event] = [
        {"kind": "tokens", "data": {"text": TEXTS[kind]}},
        {"kind": "progress", "data": progress},
    ]
    assert transitions.add_events(job_id=job.pk, lease=lease, events=events)
    assert not quoted
    assert list(Event.objects.filter(job=job).order_by("seq").values_list("seq", "data")) == [
        (2, {"text": TEXTS[kind]}),
        (3, progress),
    ]
    job.refresh_from_db()
    assert (job.last_event, job.progress_completed, job.progress_total) == (3, 3, 4)


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("delay_seconds", [0.0, 2.5])
def test_long_errors_come_back_as_they_went(
    kind: str, delay_seconds: float, quoted: list[bytes]
) -> None:
    text = TEXTS[kind]
    job, lease = running()
    assert transitions.release(
        job_id=job.pk,
        lease=lease,
        outcome="failed",
        is_counted=True,
        delay_seconds=delay_seconds,
        failure=failure(text),
    )
    assert not quoted
    job.refresh_from_db()
    assert (job.status, job.is_due, job.error_message) == ("queued", not delay_seconds, text)
    assert job.attempt_rows.get().traceback == text


def test_long_errors_of_many_jobs_are_written_together(quoted: list[bytes]) -> None:
    texts = [*TEXTS.values(), "", "it's"]
    jobs = [running() for _ in texts]
    ends = [
        Finish(job_id=job.pk, lease=lease, status="failed", failure=failure(text))
        for (job, lease), text in zip(jobs, texts, strict=True)
    ]
    assert transitions.finish(ends) == {job.pk for job, _ in jobs}
    assert not quoted
    for (job, _), text in zip(jobs, texts, strict=True):
        job.refresh_from_db()
        assert job.error_message == text
        assert job.attempt_rows.get().traceback == text
