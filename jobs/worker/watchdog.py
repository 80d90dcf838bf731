"""Detect a blocked event loop, and end the worker without harm to other jobs.

A chain that blocks without yielding (a library in C, an endless computation) stops every job of
its worker, and nothing inside the loop can interrupt it. A native thread sees that the loop's beat
has stopped, finds the culprit's run in the loop's stack, ends that attempt, releases the other jobs
and ends the process. If no run is in the stack, all jobs are released, uncounted but for suspects.
Should even that thread not get to run, faulthandler's timer, which needs no Python, ends the
process once its lease has expired.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import time
from collections.abc import Callable
from types import FrameType

import gevent
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from gevent.monkey import get_original

from chat.running.run import Run
from jobs.errors import JobTimeout, TransientFailure
from jobs.models import Job
from jobs.queue import transitions
from jobs.queue.claims import SUSPECT_LOSSES
from jobs.queue.failures import classify
from jobs.queue.reaper import requeue_lost
from jobs.queue.transitions import Finish
from jobs.worker.runner import RunningAttempt
from jobs.worker.slots import Slots
from scaling.response_cache.invalidation import stop_invalidating

logger = logging.getLogger(__name__)

_sleep: Callable[[float], None] = get_original("time", "sleep")
# gevent's own gives each greenlet an id.
_native_id: Callable[[], int] = get_original("_thread", "get_ident")
_start_native_thread: Callable[..., int] = get_original("_thread", "start_new_thread")

BEAT_SECONDS = 0.1
POLL_SECONDS = 0.25
# A job past its time is ended by the loop itself, unless the loop has been blocked for so long.
OVERDUE_SECONDS = 1.0
EXIT_CODE = 70


class Watchdog:
    """Watches the loop of the thread that makes it."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._beat_at = time.monotonic()
        self._thread_id = _native_id()

    def start(self) -> None:
        """Start the beat and the native thread."""
        gevent.spawn(self._beat)
        _start_native_thread(self._watch, ())

    def _beat(self) -> None:
        while True:
            self._beat_at = time.monotonic()
            faulthandler.dump_traceback_later(settings.JOB_LEASE_SECONDS, exit=True)
            gevent.sleep(BEAT_SECONDS)

    def _watch(self) -> None:
        while True:
            _sleep(POLL_SECONDS)
            blocked_seconds = time.monotonic() - self._beat_at
            if blocked_seconds < OVERDUE_SECONDS:
                continue
            culprit = self._find_culprit()
            overdue = 0.0
            if culprit is not None and culprit.run is not None:
                overdue = time.monotonic() - culprit.run.deadline
            if overdue > OVERDUE_SECONDS or blocked_seconds >= settings.JOB_STALL_SECONDS:
                self._end_worker(culprit, is_overdue=overdue > 0)

    def _find_culprit(self) -> RunningAttempt | None:
        """Return the attempt in whose code the loop is, by the runs in its stack."""
        frame: FrameType | None = sys._current_frames().get(self._thread_id)
        while frame is not None:
            for value in list(frame.f_locals.values()):
                run = value if isinstance(value, Run) else getattr(value, "run", None)
                for attempt in list(self._slots.running.values()):
                    if run is not None and attempt.run is run:
                        return attempt
            frame = frame.f_back
        return None

    def _end_worker(self, culprit: RunningAttempt | None, *, is_overdue: bool) -> None:
        logger.error("the event loop is blocked; this worker exits")
        faulthandler.dump_traceback()
        # The store's connections are the loop's, which is blocked.
        stop_invalidating()
        try:
            _connect_alone()
            if culprit is not None:
                self._finish_culprit(culprit, is_overdue=is_overdue)
            else:
                self._release_all()
        # The database may be unavailable, or anything may be broken: the leases expire then.
        except Exception:
            logger.exception("the jobs could not be requeued")
        finally:
            os._exit(EXIT_CODE)

    def _finish_culprit(self, culprit: RunningAttempt, *, is_overdue: bool) -> None:
        claimed = culprit.claimed
        stalled = TransientFailure("The chain blocked its worker.")
        error = JobTimeout(claimed.timeout_seconds) if is_overdue else stalled
        failure = classify(error)
        outcome = "timed_out" if is_overdue else "failed"
        if is_overdue or claimed.attempt >= claimed.max_attempts:
            finish = Finish(
                job_id=claimed.job_id, lease=claimed.lease, status="failed", outcome=outcome,
                failure=failure,
            )  # fmt: skip
            transitions.finish([finish])
        else:
            transitions.release(
                job_id=claimed.job_id,
                lease=claimed.lease,
                outcome=outcome,
                is_counted=True,
                failure=failure,
            )
        for attempt in list(self._slots.running.values()):
            if attempt is not culprit:
                transitions.release(
                    job_id=attempt.claimed.job_id, lease=attempt.claimed.lease,
                    outcome="released", is_counted=False,
                )  # fmt: skip

    def _release_all(self) -> None:
        """Release every job, of which any may be the one that blocks, or none.

        Counted only for suspects, with which two workers were lost: no two of them run together.
        So one that blocks every worker that claims it is soon out of attempts, and others are not.
        """
        for job in Job.objects.filter(lease__in=list(self._slots.running)):
            requeue_lost(job, is_counted=job.losses >= SUSPECT_LOSSES)


def _connect_alone() -> None:
    """Open a database connection for this thread outside the pool, whose helpers are blocked."""
    alone = connections.create_connection(DEFAULT_DB_ALIAS)
    options = {
        name: value for name, value in alone.settings_dict["OPTIONS"].items() if name != "pool"
    }
    alone.settings_dict = {**alone.settings_dict, "OPTIONS": options}
    connections[DEFAULT_DB_ALIAS] = alone
