"""Bars of an hour's jobs."""

from __future__ import annotations

from collections.abc import Sequence

from config import stacked_bars
from config.stacked_bars import Chart
from jobs.queue.history import Minute


def draw(minutes: Sequence[Minute]) -> Chart:
    """Return bars that stack failed and cancelled jobs upon those that succeeded."""
    return stacked_bars.draw(
        [
            (
                f"{minute.start:%H:%M}",
                {
                    "succeeded": minute.succeeded,
                    "failed": minute.failed,
                    "cancelled": minute.cancelled,
                },
            )
            for minute in minutes
        ]
    )
