"""What waits for workers: the one thing about jobs that the autoscaler asks.

Jobs are in a room above this one, so whoever knows them is named by dotted path in
AUTOSCALE_BACKLOG: a function without arguments that returns a `Backlog`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.db import DatabaseError
from django.utils.module_loading import import_string

from fleet.autoscale.errors import MeasureError
from scaling.connections import release_connections


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """Jobs that wait for a worker and jobs that run; the oldest has waited for so long."""

    waiting: int
    running: int
    oldest_seconds: float

    def values(self, *, workers: int) -> dict[str, float]:
        """Return it by measure, for each of so many workers."""
        return {
            "waiting_jobs": self.waiting / max(1, workers),
            "running_jobs": self.running / max(1, workers),
            "oldest_wait_seconds": self.oldest_seconds,
        }


def read() -> Backlog:
    """Return the backlog; raise `MeasureError` when it is not to be had."""
    reader: Callable[[], Backlog] = import_string(settings.AUTOSCALE_BACKLOG)
    try:
        return reader()
    except DatabaseError as error:
        raise MeasureError(f"the jobs cannot be counted: {error}") from error
    finally:
        release_connections()
