"""Requeue lost jobs, make delayed ones due and purge old ones: one worker at a time, every second.

Two reapers may run all statements at once; the advisory lock only saves the work.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from access import idempotency
from config.statements import read_statement
from jobs import metrics
from jobs.errors import WorkerLost
from jobs.models import Job, Worker
from jobs.queue import transitions
from jobs.queue.failures import classify
from jobs.queue.fair_queue import account_priority_sql, rank_sql
from jobs.queue.transitions import Finish
from scaling.response_cache.invalidation import invalidated_while

logger = logging.getLogger(__name__)

REAPER_LOCK = 0x6865_6164_0002
PURGE_EVERY_SECONDS = 60.0
PURGE_BATCH = 500
DUE_BATCH = 1000

MAKE_DUE = read_statement(
    Path(__file__).parent / "sql" / "make_due.sql",
    rank=rank_sql("j.account_id"),
    account_priority=account_priority_sql("j.account_id"),
)


@dataclass(frozen=True, kw_only=True)
class ReapCounts:
    """The counts of one round: jobs of dead workers, jobs that became due, old jobs removed."""

    lost: int = 0
    due: int = 0
    purged: int = 0

    def __str__(self) -> str:
        return f"{self.lost} lost, {self.due} due, {self.purged} purged"


class Reaper:
    """Reaps once its own worker has held its lease for one full lease time.

    So after an outage of the database, every other worker has had the time to renew its lease
    before a reaper declares it dead.
    """

    def __init__(self) -> None:
        self._steady_since: float | None = None
        self._next_purge = 0.0

    def record_heartbeat(self, *, is_good: bool, now: float) -> None:
        """Record whether this worker's own lease was renewed; `now` is a monotonic clock."""
        if not is_good:
            self._steady_since = None
        elif self._steady_since is None:
            self._steady_since = now

    def tick(self, *, now: float) -> ReapCounts | None:
        """Run one round; None while another worker runs one."""
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [REAPER_LOCK])
            if not cursor.fetchone()[0]:
                return None
            is_steady = (
                self._steady_since is not None
                and now - self._steady_since >= settings.JOB_LEASE_SECONDS
            )
            lost = reap_dead_workers() if is_steady else 0
            due = make_due()
        purged = 0
        if now >= self._next_purge:
            purged = purge()
            # A full batch means that there is more.
            self._next_purge = now + (0.0 if purged >= PURGE_BATCH else PURGE_EVERY_SECONDS)
        return ReapCounts(lost=lost, due=due, purged=purged)


def reap_dead_workers() -> int:
    """Requeue the jobs of workers whose lease has expired; return how many."""
    dead = list(
        Worker.objects.select_for_update(skip_locked=True)
        .exclude(state=Worker.State.GONE)
        .filter(lease_until__lt=Now())
    )
    count = 0
    for worker in dead:
        worker.state = Worker.State.GONE
        worker.ended_at = Now()
        worker.running = 0
        worker.save(update_fields=["state", "ended_at", "running"])
        logger.warning("%s is dead", worker)
    rows = Job.objects.filter(status=Job.Status.RUNNING, worker__state=Worker.State.GONE)
    for job in rows.only("id", "lease", "attempts", "max_attempts", "cancel_requested_at"):
        count += requeue_lost(job)
    metrics.REAPED.labels("lost").inc(count)
    return count


def requeue_lost(job: Job, *, is_counted: bool = True) -> bool:
    """Requeue a running job whose worker is dead; finish it if that was its last attempt.

    An attempt that is not counted is none of its `max_attempts`, but a loss all the same: losses
    make a job a suspect (jobs/queue/claims.py).
    """
    assert job.lease is not None  # noqa: S101  (a running job has one)
    Job.objects.filter(pk=job.pk, lease=job.lease).update(losses=F("losses") + 1)
    if job.cancel_requested_at is not None:
        cancelled = Finish(job_id=job.pk, lease=job.lease, status="cancelled")
        return bool(transitions.finish([cancelled]))
    if not is_counted:
        return transitions.release(
            job_id=job.pk, lease=job.lease, outcome="released", is_counted=False
        )
    failure = classify(WorkerLost())
    if job.attempts >= job.max_attempts:
        failed = Finish(
            job_id=job.pk, lease=job.lease, status="failed", outcome="lost", failure=failure
        )
        return bool(transitions.finish([failed]))
    return transitions.release(
        job_id=job.pk, lease=job.lease, outcome="lost", is_counted=True, failure=failure
    )


def make_due() -> int:
    """Make queued jobs due whose `run_at` has come; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(MAKE_DUE, {"batch": DUE_BATCH})
        count: int = cursor.rowcount
    metrics.REAPED.labels("due").inc(count)
    return count


def old_jobs(*, days: int) -> QuerySet[Job]:
    """Return the jobs that finished more than so many days ago."""
    return Job.objects.filter(finished_at__lt=Now() - timedelta(days=days))


def purge(*, batch: int = PURGE_BATCH, days: int | None = None) -> int:
    """Remove one batch of jobs that finished, the oldest first; return its size.

    They are those older than `days`, or than JOB_RETENTION_DAYS. Removes with a job its attempts,
    events, model calls, deliveries and uploaded file, and also workers that ended and idempotency
    keys that expired.
    """
    days = settings.JOB_RETENTION_DAYS if days is None else days
    with transaction.atomic():
        # Locked, so that no request retries one of them at the same time.
        rows = old_jobs(days=days).select_for_update(skip_locked=True).order_by("finished_at")
        old = list(rows.only("id", "file")[:batch])
        for job in old:
            if job.file:
                job.file.delete(save=False)
        with invalidated_while([transitions.subject_of(job.pk) for job in old]):
            Job.objects.filter(pk__in=[job.pk for job in old]).delete()
    Worker.objects.filter(ended_at__lt=Now() - timedelta(days=1)).delete()
    idempotency.purge(batch=batch)
    metrics.REAPED.labels("purged").inc(len(old))
    return len(old)
