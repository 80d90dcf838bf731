"""Single flight: one call for any number of identical requests, on any number of nodes, at once.

Within a process later requests wait for the first. Among processes a lock in the store decides who
calls; it is a lease that the leader renews, so a leader that is killed is replaced within
LEASE_SECONDS. Without the store each process has a leader of its own.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable

from config.background import BackgroundThread
from config.request_setup import mark_dispatched
from scaling.response_cache.entry import Entry
from scaling.response_cache.store import StoreUnavailable, get_store

logger = logging.getLogger(__name__)

LEASE_SECONDS = 3.0
RENEW_EVERY_SECONDS = 1.0
# How often a waiting process looks for the answer of another process's leader.
FIRST_POLL_SECONDS = 0.01
LAST_POLL_SECONDS = 0.1


class Leader:
    """The right to compute the answer that others wait for; end it with exactly one of its methods.

    `is_alone` means that no request waits for it: this one had waited for too long.
    """

    def __init__(self, flights: SingleFlight, key: str, *, is_alone: bool = False) -> None:
        self.key = key
        self.is_alone = is_alone
        self.token = ""
        self.entry: Entry | None = None
        self.error: Exception | None = None
        self._single_flight = flights
        self._over = threading.Event()

    def complete(self, entry: Entry) -> None:
        """Answer the requests that wait in this process; other processes find it in the store."""
        self.entry = entry
        self._end()

    def fail(self, error: Exception) -> None:
        """Fail the requests that wait in this process."""
        self.error = error
        self._end()

    def abandon(self) -> None:
        """End without an answer, so that a waiting request leads; after an end, do nothing."""
        self._end()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; return False if it has not come."""
        return self._over.wait(seconds)

    def _end(self) -> None:
        if self._over.is_set():
            return
        self._single_flight.release(self)
        self._over.set()


class SingleFlight(BackgroundThread):
    """The calls of one process that are under way; its thread renews their locks."""

    name = "single-flight"
    interval_seconds = RENEW_EVERY_SECONDS

    def reset(self) -> None:
        """Drop the calls that are under way."""
        super().reset()
        self._leaders: dict[str, Leader] = {}

    def do(
        self, key: str, *, find: Callable[[], Entry | None], wait_seconds: float
    ) -> Entry | Leader:
        """Return the answer of a call under way, or the right to make the call.

        `find` looks for the answer in the cache. After `wait_seconds` the caller leads alone.
        Raises the error of this process's leader.
        """
        until = time.monotonic() + wait_seconds
        while True:
            mine = Leader(self, key)
            leader = self._leaders.setdefault(key, mine)
            if leader is mine:
                return self._wait_for_lock(mine, find, until)
            mark_dispatched()
            if not leader.wait(max(0.0, until - time.monotonic())):
                return Leader(self, key, is_alone=True)
            if leader.error is not None:
                raise leader.error
            if leader.entry is not None:
                return leader.entry

    def try_begin(self, key: str) -> Leader | None:
        """Return the right to make a call, if none is under way; never waits."""
        mine = Leader(self, key)
        if self._leaders.setdefault(key, mine) is not mine:
            return None
        try:
            has_lock = self._try_lock(mine)
        except BaseException:
            mine.abandon()
            raise
        if has_lock:
            return mine
        mine.abandon()
        return None

    def release(self, leader: Leader) -> None:
        """Remove a leader that has ended, and release its lock."""
        if self._leaders.get(leader.key) is leader:
            del self._leaders[leader.key]
        if leader.token:
            token, leader.token = leader.token, ""
            try:
                get_store().delete_if(_lock_name(leader.key), token.encode())
            except StoreUnavailable:
                logger.debug("the lock of %s expires by itself", leader.key)

    def tick(self) -> None:
        """Renew the locks."""
        for leader in list(self._leaders.values()):
            if not (token := leader.token):
                continue
            try:
                get_store().renew_if(_lock_name(leader.key), token.encode(), LEASE_SECONDS)
            except StoreUnavailable:
                break

    def _wait_for_lock(
        self, leader: Leader, find: Callable[[], Entry | None], until: float
    ) -> Entry | Leader:
        """Wait for the lock, or for the answer of another process's leader."""
        pause = FIRST_POLL_SECONDS
        try:
            while True:
                # In this order: a leader stores its answer, and only then releases the lock.
                has_lock = self._try_lock(leader)
                if (entry := find()) is not None:
                    leader.complete(entry)
                    return entry
                if has_lock or time.monotonic() > until:
                    return leader
                mark_dispatched()
                time.sleep(pause)
                pause = min(pause * 1.5, LAST_POLL_SECONDS)
        except BaseException:
            leader.abandon()
            raise
        return leader

    def _try_lock(self, leader: Leader) -> bool:
        token = uuid.uuid4().hex
        try:
            if not get_store().add(_lock_name(leader.key), token.encode(), LEASE_SECONDS):
                return False
        except StoreUnavailable:
            return True
        leader.token = token
        self.start()
        return True


def _lock_name(key: str) -> str:
    return f"{key}:lock"


SINGLE_FLIGHT = SingleFlight()
