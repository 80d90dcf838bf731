"""What waits and runs, for the autoscaler (AUTOSCALE_BACKLOG)."""

from django.db import connection

from fleet.autoscale.backlog import Backlog

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


def read_backlog() -> Backlog:
    """Return how much work there is for workers; one query."""
    with connection.cursor() as cursor:
        cursor.execute(BACKLOG, [MAX_WAITING])
        waiting, oldest_seconds, running = cursor.fetchone()
    return Backlog(waiting=waiting, running=running, oldest_seconds=oldest_seconds)
