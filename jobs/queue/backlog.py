"""The numbers of waiting and running jobs."""

from dataclasses import dataclass
from pathlib import Path

from django.db import connection

from config.statements import read_statement
from jobs.models import Job

# Beyond this a fleet is at its maximum anyway, and counting would cost more than it is worth.
MAX_WAITING = 100_000

_SQL = Path(__file__).parent / "sql"
BACKLOG = read_statement(_SQL / "backlog.sql")


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """Jobs that wait for a worker and jobs that run; `oldest_seconds` is the longest wait."""

    waiting: int
    running: int
    oldest_seconds: float


def read_backlog() -> Backlog:
    """Return the work that there is for workers; one query."""
    with connection.cursor() as cursor:
        cursor.execute(BACKLOG, [MAX_WAITING])
        waiting, oldest_seconds, running = cursor.fetchone()
    return Backlog(waiting=waiting, running=running, oldest_seconds=oldest_seconds)


def count_queued() -> int:
    """Return how many jobs are queued, those that are not due included; one query."""
    return Job.objects.filter(status=Job.Status.QUEUED).count()
