"""The state of the queue and of the workers.

Each function is one query, or two, bounded by the waiting and running jobs. Finished jobs are in
jobs/queue/history.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.utils import timezone
from redis import RedisError

from config.brokers import get_broker
from jobs.models import Job, Worker
from jobs.queue.messages import QUEUE

MAX_WORKERS = 200
MAX_JOBS_OF_WORKER = 10
# Beyond this the page shows "at least", and stays quick.
MAX_WAITING = 100_000

# A job that waits again has waited since its `run_at`.
WAITING = """
SELECT priority, slug, count(*), min(since) FROM (
    SELECT j.priority, c.slug, greatest(j.created_at, j.run_at) AS since
    FROM jobs_job j JOIN chat_chain c ON c.id = j.chain_id
    WHERE j.status = 'queued' AND j.is_due LIMIT %s
) AS waiting GROUP BY 1, 2
"""

SCHEDULED = """
SELECT count(*), min(run_at) FROM (
    SELECT run_at FROM jobs_job WHERE status = 'queued' AND NOT is_due ORDER BY run_at LIMIT %s
) AS scheduled
"""

RUNNING_OF_WORKERS = """
SELECT w.id, j.id, c.slug, a.started_at
FROM unnest(%s::uuid[]) AS w (id)
CROSS JOIN LATERAL (
    SELECT id, chain_id, lease FROM jobs_job
    WHERE status = 'running' AND worker_id = w.id LIMIT %s
) AS j
JOIN chat_chain c ON c.id = j.chain_id
LEFT JOIN jobs_attempt a ON a.id = j.lease
ORDER BY a.started_at, j.id
"""


@dataclass(frozen=True, kw_only=True)
class QueueLine:
    """Due jobs in a line, by priority or by chain; `since` is when the oldest began to wait."""

    name: str
    count: int
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Queue:
    """All waiting jobs. `is_cut`: only MAX_WAITING of them were counted."""

    count: int
    is_cut: bool
    since: datetime | None
    by_priority: Sequence[QueueLine]
    by_chain: Sequence[QueueLine]
    scheduled: int
    next_run_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class RunningJob:
    """A job that a worker runs; `since` is the attempt's start."""

    id: uuid.UUID
    chain: str
    since: datetime | None


@dataclass(frozen=True, kw_only=True)
class LivingWorker:
    """A worker that is not gone, with the first of its jobs. `is_late`: its lease has expired."""

    worker: Worker
    is_late: bool
    running: int
    jobs: Sequence[RunningJob]

    @property
    def others(self) -> int:
        """The number of running jobs that `jobs` leaves out."""
        return max(0, self.running - len(self.jobs))


def read_queue() -> Queue:
    """Return the waiting jobs' counts; scans their partial indexes."""
    with connection.cursor() as cursor:
        cursor.execute(WAITING, [MAX_WAITING])
        rows = cursor.fetchall()
        cursor.execute(SCHEDULED, [MAX_WAITING])
        scheduled, next_run_at = cursor.fetchone()
    count = sum(row[2] for row in rows)
    return Queue(
        count=count,
        is_cut=count >= MAX_WAITING,
        since=min((row[3] for row in rows), default=None),
        by_priority=sorted(_grouped(rows, 0), key=lambda line: -int(line.name)),
        by_chain=sorted(_grouped(rows, 1), key=lambda line: (-line.count, line.name)),
        scheduled=scheduled,
        next_run_at=next_run_at,
    )


def read_workers(*, now: datetime | None = None) -> list[LivingWorker]:
    """Return the workers that are not gone, each with its first MAX_JOBS_OF_WORKER jobs."""
    now = now or timezone.now()
    workers = list(
        Worker.objects.exclude(state=Worker.State.GONE).order_by("name", "pk")[:MAX_WORKERS]
    )
    jobs: dict[uuid.UUID, list[RunningJob]] = {}
    with connection.cursor() as cursor:
        cursor.execute(RUNNING_OF_WORKERS, [[w.pk for w in workers], MAX_JOBS_OF_WORKER])
        for worker_id, job_id, chain, since in cursor.fetchall():
            jobs.setdefault(worker_id, []).append(RunningJob(id=job_id, chain=chain, since=since))
    return [
        LivingWorker(
            worker=worker,
            is_late=worker.lease_until < now,
            # A heartbeat's count is up to a second old.
            running=max(worker.running, len(jobs.get(worker.pk, []))),
            jobs=jobs.get(worker.pk, []),
        )
        for worker in workers
    ]


def count_running() -> int:
    """Return how many jobs run, by a partial index."""
    return Job.objects.filter(status=Job.Status.RUNNING).count()


def read_broker_depth() -> int | None:
    """Return how many messages the broker holds, waiting or in workers' hands.

    None if it is no Redis, or unavailable; waits BROKER_TIMEOUT_SECONDS at most.
    """
    if urlsplit(settings.BROKER_URL).scheme not in ("redis", "rediss"):
        return None
    try:
        broker: Any = get_broker()
        # Dramatiq's dispatch.lua stores each message in this hash until it is acknowledged.
        return int(broker.client.hlen(f"{broker.namespace}:{QUEUE}.msgs"))
    except (RedisError, ImproperlyConfigured):
        return None


def _grouped(rows: Sequence[tuple[Any, ...]], column: int) -> list[QueueLine]:
    lines: dict[Any, QueueLine] = {}
    for row in rows:
        name, count, since = str(row[column]), row[2], row[3]
        if (line := lines.get(name)) is not None:
            count, since = count + line.count, min(since, line.since)
        lines[name] = QueueLine(name=name, count=count, since=since)
    return list(lines.values())
