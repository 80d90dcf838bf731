"""Announce jobs to the broker, off the request's path.

A message only wakes a worker a little sooner. If one is lost, because the broker is unavailable or
this process is killed, the workers find the job by polling, so no request waits for the broker.
"""

from __future__ import annotations

import contextlib
import queue

from config.background import BackgroundThread
from jobs import metrics
from jobs.queue.messages import send

# Beyond this workers find jobs soon enough by polling.
MAX_PENDING = 10_000
PAUSE_AFTER_FAILURE_SECONDS = 1.0
# A slot that claims a job starts the next, so jobs that come nearly together share messages;
# many jobs get more than one, so that several workers are woken.
PAUSE_SECONDS = 0.02
JOBS_PER_MESSAGE = 8


class Announcer(BackgroundThread):
    """Sends messages from the process's thread for them."""

    name = "announcer"
    ticks_at_once = True

    def reset(self) -> None:
        """Drop the messages that are not sent."""
        super().reset()
        self._pending: queue.Queue[str] = queue.Queue(MAX_PENDING)
        self._has_failed = False

    def announce(self, job_id: str) -> None:
        """Queue a wake-up message for a committed job; returns at once and never raises."""
        try:
            self._pending.put_nowait(job_id)
        except queue.Full:
            metrics.ANNOUNCE_FAILURES.inc()
            return
        self.start()

    @property
    def interval_seconds(self) -> float:
        """The pause after messages, in which those of further jobs gather."""
        return PAUSE_AFTER_FAILURE_SECONDS if self._has_failed else PAUSE_SECONDS

    def tick(self) -> None:
        """Wait for jobs, and announce those that there are."""
        pending = self._pending
        waiting = [pending.get(), *_take_all(pending)]
        self._has_failed = not all(send(job_id) for job_id in waiting[::JOBS_PER_MESSAGE])
        if self._has_failed:
            _take_all(pending)


def _take_all(pending: queue.Queue[str]) -> list[str]:
    taken = []
    with contextlib.suppress(queue.Empty):
        while True:
            taken.append(pending.get_nowait())
    return taken


ANNOUNCER = Announcer()
