"""The jobs that wait for workers, as a measure of the autoscaler."""

from __future__ import annotations

from django.db import DatabaseError

from fleet.autoscale.errors import MeasureError
from jobs.queue.backlog import Backlog, read_backlog
from scaling.connections import release_connections


def read() -> Backlog:
    """Return the backlog; raise `MeasureError` when the database is unavailable."""
    try:
        return read_backlog()
    except DatabaseError as error:
        raise MeasureError(f"the jobs cannot be counted: {error}") from error
    finally:
        release_connections()


def measures(backlog: Backlog, *, workers: int) -> dict[str, float]:
    """Return the backlog by measure, for each of so many workers."""
    return {
        "waiting_jobs": backlog.waiting / max(1, workers),
        "running_jobs": backlog.running / max(1, workers),
        "oldest_wait_seconds": backlog.oldest_seconds,
    }
