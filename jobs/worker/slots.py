"""The slots in which a worker process runs jobs."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable

import gevent
from django.conf import settings
from django.db import DatabaseError
from psycopg_pool import PoolTimeout

from jobs import metrics
from jobs.queue.claims import ClaimedJob, claim, has_due
from jobs.worker.runner import RunningAttempt, run_attempt
from scaling.connections import release_connections

logger = logging.getLogger(__name__)

# The last tenth of the slots is for accounts that have nothing running here, so that one account's
# long jobs never fill a worker.
RESERVED_SHARE = 10
# So do as many bytes of inputs again as JOB_WORKER_INPUT_BYTES.
RESERVED_BYTES = 2
MAX_CLAIM = 64
# A waiting message checks this often whether the worker drains.
ROOM_WAIT_SECONDS = 0.5


class Slots:
    """At most JOB_CONCURRENCY slots, each of which runs jobs until it finds none.

    The inputs of running jobs are bounded too, by JOB_WORKER_INPUT_BYTES: hundreds of the largest
    would be more than the process may take.

    Each message starts one slot, and so does `poll`, by which a worker finds jobs without any
    broker; a slot that claims a job starts another. So a single message is enough for any number of
    waiting jobs, a message is acknowledged at once however long the jobs take, and a worker that is
    full takes no messages from others: `wake` waits.

    Slots that want a job while a claim is under way share the next one, so a busy worker pays for
    few claims. Invariant: at most one claim at a time.
    """

    def __init__(self) -> None:
        self.worker_id: uuid.UUID | None = None
        self.worker_name = ""
        self.is_draining = False
        # Messages that started no slot because the worker drains; other workers must get them.
        self.unused_messages = 0
        # Called when an attempt has ended that may have left deliveries to send.
        self.on_delivery: Callable[[], None] = lambda: None
        self.running: dict[uuid.UUID, RunningAttempt] = {}
        self.open_count = 0
        self._has_room = threading.Event()
        # Held while a claim is under way.
        self.claiming = threading.Lock()
        self._wanted = 0
        self._found: list[ClaimedJob] = []
        # Claims are numbered; the last one that found less than was wanted has this number.
        self.claims = 0
        self._last_short = 0

    def wake(self) -> None:
        """Start a slot, once there is room for one."""
        while not self.is_draining and not self._has_idle():
            self._has_room.clear()
            self._has_room.wait(ROOM_WAIT_SECONDS)
        if self.is_draining or self.worker_id is None:
            self.unused_messages += 1
            return
        self._open_slot()

    def poll(self) -> None:
        """Start a slot if there is room for one and a job is due; raises the database's errors."""
        # A claim that is under way sees the due jobs, and its slot starts the next.
        if self.is_draining or self.claiming.locked() or not self._has_idle():
            return
        is_due = has_due()
        release_connections()
        if is_due and not self.is_draining and self._has_idle():
            metrics.FOUND.inc()
            self._open_slot()

    def _has_idle(self) -> bool:
        most_bytes = RESERVED_BYTES * int(settings.JOB_WORKER_INPUT_BYTES)
        return self.open_count < int(settings.JOB_CONCURRENCY) and self._input_bytes() < most_bytes

    def _input_bytes(self) -> int:
        """Return the bytes of the inputs that this worker holds."""
        running = sum(attempt.claimed.input_bytes for attempt in self.running.values())
        return running + sum(claimed.input_bytes for claimed in self._found)

    def _open_slot(self) -> None:
        self.open_count += 1
        gevent.spawn(self._work)

    def _work(self) -> None:
        """Run jobs until none is left for this worker."""
        try:
            while not self.is_draining and (claimed := self._next()) is not None:
                if self._has_idle():
                    self._open_slot()
                self._run(claimed)
        finally:
            self.open_count -= 1
            self._has_room.set()

    def leases(self) -> set[uuid.UUID]:
        """Return the leases of the jobs that this worker runs, or has claimed to run next."""
        return {*self.running, *(claimed.lease for claimed in list(self._found))}

    def stop_all(self, reason: str) -> None:
        """Stop every attempt."""
        for attempt in list(self.running.values()):
            attempt.stop(reason)

    def _run(self, claimed: ClaimedJob) -> None:
        attempt = RunningAttempt(claimed)
        self.running[claimed.lease] = attempt
        self._set_gauges()
        try:
            run_attempt(attempt)
        finally:
            self.running.pop(claimed.lease, None)
            if claimed.has_delivery:
                self.on_delivery()
            self._set_gauges()

    def _set_gauges(self) -> None:
        metrics.RUNNING.set(len(self.running))
        metrics.RUNNING_INPUT_BYTES.set(self._input_bytes())

    def _next(self) -> ClaimedJob | None:
        """Return a job, or None when there is none for this worker."""
        self._wanted += 1
        started_after = self.claims
        with self.claiming:
            if self._found:
                return self._found.pop()
            if self._last_short > started_after:
                # A claim that began after this slot wanted a job has left nothing.
                return None
            wanted, self._wanted = min(max(1, self._wanted), MAX_CLAIM), 0
            count = min(wanted, self._count_by_bytes())
            self.claims += 1
            self._found = self.claim_jobs(count)
            if len(self._found) < count:
                self._last_short = self.claims
            return self._found.pop() if self._found else None

    def _count_by_bytes(self) -> int:
        """Return how many of the largest inputs fit; their sizes are known only when claimed."""
        largest: int = max(settings.MAX_BODY_BYTES, settings.JOB_MAX_TEXT_CHARS)
        return max(1, (settings.JOB_WORKER_INPUT_BYTES - self._input_bytes()) // largest)

    def claim_jobs(self, count: int) -> list[ClaimedJob]:
        """Claim at most so many jobs; none while the database is unavailable."""
        assert self.worker_id is not None  # noqa: S101  (no slot starts without one)
        here = Counter(attempt.claimed.account_id for attempt in self.running.values())
        reserve = settings.JOB_CONCURRENCY // RESERVED_SHARE
        room = max(0, settings.JOB_CONCURRENCY - len(self.running) - reserve)
        if self._input_bytes() >= settings.JOB_WORKER_INPUT_BYTES:
            room = 0
        try:
            found = claim(
                worker_id=self.worker_id,
                worker_name=self.worker_name,
                count=count if room else 1,
                excluded_accounts=() if room else here.keys(),
                per_account_limit=room or 1,
                allow_suspect=not any(a.claimed.is_suspect for a in self.running.values()),
            )
        except (DatabaseError, PoolTimeout) as error:
            # The next poll finds them once the database is available.
            logger.warning("no jobs claimed: %s", error)
            return []
        finally:
            release_connections()
        found.reverse()
        return found


SLOTS = Slots()
