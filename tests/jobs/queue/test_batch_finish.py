"""Many jobs finished in one statement."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from django.db import DataError, connection

from jobs.models import Event, Job
from jobs.queue import batch_finish, transitions
from jobs.queue.batch_finish import MAX_BATCH, FinishBatcher
from jobs.queue.transitions import Finish
from tests.support.rows import make_job

pytestmark = pytest.mark.django_db


def running() -> tuple[Job, Finish]:
    """Return a running job, and its good end."""
    lease = uuid.uuid4()
    job = make_job("running", lease=lease, output=None, last_event=1)
    return job, Finish(job_id=job.pk, lease=lease, status="succeeded", output='"yes"')


def status(job: Job) -> str:
    return Job.objects.values_list("status", flat=True).get(pk=job.pk)


def test_each_of_many_ends_in_its_own_way() -> None:
    good, good_end = running()
    lost, lost_end = running()
    Job.objects.filter(pk=lost.pk).update(lease=uuid.uuid4())
    waiting = make_job("queued")
    over = make_job("cancelled")
    ends = [
        Finish(job_id=over.pk, lease=None, status="cancelled"),
        good_end,
        lost_end,
        Finish(job_id=waiting.pk, lease=None, status="cancelled"),
    ]
    assert transitions.finish(ends) == {good.pk, waiting.pk}
    assert [status(job) for job in (good, lost, waiting, over)] == [
        "succeeded",
        "running",
        "cancelled",
        "cancelled",
    ]
    attempt = good.attempt_rows.get(outcome="succeeded")
    assert attempt.ended_at is not None
    assert transitions.finish(ends) == set()


def test_the_last_events_precede_the_end() -> None:
    job, finish = running()
    progress = {"completed": 3, "total": 3, "message": "Done."}
    finish = replace(
        finish,
        output="null",
        events=[
            {"kind": "progress", "data": progress},
            {"kind": "tokens", "data": {"text": "yes"}},
        ],
    )
    assert transitions.finish([finish])
    events = Event.objects.filter(job=job).order_by("seq").values_list("seq", "kind", "data")
    assert list(events) == [
        (2, "progress", progress),
        (3, "tokens", {"text": "yes"}),
        (4, "done", {"status": "succeeded"}),
    ]
    job.refresh_from_db()
    assert (job.last_event, job.progress_completed, job.progress_message) == (4, 3, "Done.")
    # JSON's null is an output, not the lack of one.
    with connection.cursor() as cursor:
        cursor.execute("SELECT output = 'null'::jsonb FROM jobs_job WHERE id = %s", [job.pk])
        assert cursor.fetchone() == (True,)


def test_each_gets_its_own_output_events_and_progress() -> None:
    outputs = ["null", None, "[[1],null]", '"\\u0000,]["', "{}"]
    jobs = [running() for _ in outputs]
    ends = [
        replace(
            finish,
            output=output,
            events=[{"kind": "progress", "data": {"completed": number, "total": 9, "message": "x"}}]
            * (number % 2),
        )
        for number, ((_, finish), output) in enumerate(zip(jobs, outputs, strict=True))
    ]
    assert transitions.finish(ends) == {job.pk for job, _ in jobs}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT output::text, progress_completed, last_event FROM jobs_job"
            " WHERE id = ANY(%s) ORDER BY array_position(%s, id)",
            [[job.pk for job, _ in jobs]] * 2,
        )
        assert cursor.fetchall() == [
            ("null", None, 2),
            (None, 1, 3),
            ("[[1], null]", None, 2),
            ('",]["', 3, 3),
            ("{}", None, 2),
        ]


@pytest.mark.django_db(transaction=True)
def test_ends_that_come_together_share_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [running() for _ in range(MAX_BATCH + 6)]
    first, all_wait = threading.Event(), threading.Event()
    sizes: list[int] = []

    def slow_finish(ends: Sequence[Finish]) -> set[uuid.UUID]:
        sizes.append(len(ends))
        first.set()
        assert all_wait.wait(20)
        return transitions.finish(ends)

    monkeypatch.setattr(batch_finish, "finish", slow_finish)
    batcher = FinishBatcher()
    with ThreadPoolExecutor(len(jobs)) as threads:
        results = [threads.submit(batcher.write, jobs[0][1])]
        assert first.wait(20)
        results += [threads.submit(batcher.write, finish) for _, finish in jobs[1:]]
        while len(batcher.pending) < len(jobs) - 1:
            assert not any(result.done() for result in results)
        all_wait.set()
        assert all(result.result(20) for result in results)
    assert sizes == [1, MAX_BATCH, 5]
    assert {status(job) for job, _ in jobs} == {"succeeded"}


@pytest.mark.django_db(transaction=True)
def test_one_end_that_cannot_be_stored_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [running() for _ in range(3)]
    bad = replace(jobs[1][1], output="not JSON")
    pending = [batch_finish.Pending(finish) for finish in (jobs[0][1], bad, jobs[2][1])]
    batch_finish.write_batch(pending)
    assert [each.is_written for each in pending] == [True, False, True]
    assert isinstance(pending[1].error, DataError)
    assert status(jobs[1][0]) == "running"
