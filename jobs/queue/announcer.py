"""Announce jobs to the broker, off the request's path.

A message only wakes a worker a little sooner. If one is lost, because the broker is unavailable or
this process is killed, the workers find the job by polling, so no request waits for the broker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time

from jobs import metrics

logger = logging.getLogger(__name__)

# Beyond this workers find jobs soon enough by polling.
MAX_PENDING = 10_000
PAUSE_AFTER_FAILURE_SECONDS = 1.0
# A slot that claims a job starts the next, so jobs that come nearly together share messages;
# many jobs get more than one, so that several workers are woken.
PAUSE_SECONDS = 0.02
JOBS_PER_MESSAGE = 8


class Announcer:
    """Sends messages from one daemon thread a process (a greenlet under gevent)."""

    def __init__(self) -> None:
        self._lock: threading.Lock
        self._pending: queue.Queue[str]
        self._thread: threading.Thread | None
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def announce(self, job_id: str) -> None:
        """Queue a wake-up message for a committed job; returns at once and never raises."""
        try:
            self._pending.put_nowait(job_id)
        except queue.Full:
            metrics.ANNOUNCE_FAILURES.inc()
            return
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, args=(self._pending,), name="announcer", daemon=True
                    )
                    self._thread.start()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._pending = queue.Queue(MAX_PENDING)
        self._thread = None

    def _run(self, pending: queue.Queue[str]) -> None:
        while pending is self._pending:
            waiting = [pending.get(), *_take_all(pending)]
            is_sent = all(send(job_id) for job_id in waiting[::JOBS_PER_MESSAGE])
            if not is_sent:
                _take_all(pending)
            time.sleep(PAUSE_SECONDS if is_sent else PAUSE_AFTER_FAILURE_SECONDS)


def _take_all(pending: queue.Queue[str]) -> list[str]:
    taken = []
    with contextlib.suppress(queue.Empty):
        while True:
            taken.append(pending.get_nowait())
    return taken


def warm_up() -> None:
    """Load the broker's client, which would block the event loop at the first message."""
    from jobs.worker.tasks import actor  # noqa: PLC0415

    try:
        actor()
    # A node serves without a broker too, and with a BROKER_URL that is wrong.
    except Exception as error:
        logger.warning("no broker: %s", error)


def send(job_id: str) -> bool:
    """Send one message now; return whether the broker took it."""
    # Dramatiq and a broker's client are not loaded by commands that never send.
    from jobs.worker.tasks import actor  # noqa: PLC0415

    try:
        actor().send(job_id)
    # Each broker's client raises errors of its own, and polling makes up for all of them.
    except Exception as error:
        metrics.ANNOUNCE_FAILURES.inc()
        logger.warning("the broker accepted no message: %s", type(error).__name__)
        return False
    return True


ANNOUNCER = Announcer()
