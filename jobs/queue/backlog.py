"""How many jobs wait and run."""

from dataclasses import dataclass

from django.db import connection

from jobs.models import Job

# Beyond this a fleet is at its maximum anyway, and counting would cost more than it tells.
MAX_WAITING = 100_000

# Both parts read a partial index. A job that waits again waits since its `run_at`.
BACKLOG = """
SELECT count(*), coalesce(greatest(0, extract(epoch FROM now() - min(since))), 0)::float8,
    (SELECT count(*) FROM jobs_job WHERE status = 'running')
FROM (
    SELECT greatest(created_at, run_at) AS since FROM jobs_job
    WHERE status = 'queued' AND is_due LIMIT %s
) AS waiting
"""


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """Jobs that wait for a worker and jobs that run; `oldest_seconds` is the longest wait."""

    waiting: int
    running: int
    oldest_seconds: float


def read_backlog() -> Backlog:
    """Return how much work there is for workers; one query."""
    with connection.cursor() as cursor:
        cursor.execute(BACKLOG, [MAX_WAITING])
        waiting, oldest_seconds, running = cursor.fetchone()
    return Backlog(waiting=waiting, running=running, oldest_seconds=oldest_seconds)


def count_queued() -> int:
    """Return how many jobs are queued, those that are not due included; one query."""
    return Job.objects.filter(status=Job.Status.QUEUED).count()
