"""One call for however many identical requests, on however many nodes, arrive at once.

Within a process those who come later wait for the first. Among processes a lock in the store says
who calls; it is a lease that the leader renews, so a leader that is killed is replaced within
LEASE_SECONDS. Without the store each process has a flight of its own.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable

from config.request_setup import mark_dispatched
from scaling.response_cache.entry import Entry
from scaling.response_cache.store import StoreUnavailable, get_store

logger = logging.getLogger(__name__)

LEASE_SECONDS = 3.0
RENEW_EVERY_SECONDS = 1.0
# How often a waiting process looks for the answer of another's leader.
FIRST_LOOK_SECONDS = 0.01
LAST_LOOK_SECONDS = 0.1


class Lead:
    """The right to make the answer that others wait for; end it with exactly one of its methods.

    `is_alone` means that nobody waits for it: the wait was too long.
    """

    def __init__(self, flights: Flights, key: str, *, is_alone: bool = False) -> None:
        self.key = key
        self.is_alone = is_alone
        self.token = ""
        self.entry: Entry | None = None
        self.error: Exception | None = None
        self._flights = flights
        self._over = threading.Event()

    def complete(self, entry: Entry) -> None:
        """Give the answer to all who wait in this process; others find it in the store."""
        self.entry = entry
        self._end()

    def fail(self, error: Exception) -> None:
        """Give the failure to all who wait in this process."""
        self.error = error
        self._end()

    def abandon(self) -> None:
        """Let another of those who wait lead; the second time, or after an end, do nothing."""
        self._end()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; False if it has not come."""
        return self._over.wait(seconds)

    def _end(self) -> None:
        if self._over.is_set():
            return
        self._flights.leave(self)
        self._over.set()


class Flights:
    """The flights of one process."""

    def __init__(self) -> None:
        self._led: dict[str, Lead]
        self._keeper: threading.Thread | None
        self._lock: threading.Lock
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def join(
        self, key: str, *, find: Callable[[], Entry | None], wait_seconds: float
    ) -> Entry | Lead:
        """Return the answer that another makes meanwhile, or the right to make it.

        `find` looks for the answer in the cache. After `wait_seconds` the caller leads alone.
        Raises what the leader of this process failed with.
        """
        until = time.monotonic() + wait_seconds
        while True:
            mine = Lead(self, key)
            lead = self._led.setdefault(key, mine)
            if lead is mine:
                return self._win(mine, find, until)
            mark_dispatched()
            if not lead.wait(max(0.0, until - time.monotonic())):
                return Lead(self, key, is_alone=True)
            if lead.error is not None:
                raise lead.error
            if lead.entry is not None:
                return lead.entry

    def try_lead(self, key: str) -> Lead | None:
        """Return the right to make an answer, if nobody makes it already; waits for nobody."""
        mine = Lead(self, key)
        if self._led.setdefault(key, mine) is not mine:
            return None
        try:
            has_lock = self._take_lock(mine)
        except BaseException:
            mine.abandon()
            raise
        if has_lock:
            return mine
        mine.abandon()
        return None

    def leave(self, lead: Lead) -> None:
        """Forget a lead that is over, and give its lock back."""
        if self._led.get(lead.key) is lead:
            del self._led[lead.key]
        if lead.token:
            token, lead.token = lead.token, ""
            try:
                get_store().delete_if(_lock_name(lead.key), token.encode())
            except StoreUnavailable:
                logger.debug("the lock of %s runs out by itself", lead.key)

    def _win(self, lead: Lead, find: Callable[[], Entry | None], until: float) -> Entry | Lead:
        """Wait until this process may lead, or another's answer is there."""
        pause = FIRST_LOOK_SECONDS
        try:
            while True:
                # In this order: a leader stores its answer, and only then gives the lock back.
                has_lock = self._take_lock(lead)
                if (entry := find()) is not None:
                    lead.complete(entry)
                    return entry
                if has_lock or time.monotonic() > until:
                    return lead
                mark_dispatched()
                time.sleep(pause)
                pause = min(pause * 1.5, LAST_LOOK_SECONDS)
        except BaseException:
            lead.abandon()
            raise
        return lead

    def _take_lock(self, lead: Lead) -> bool:
        token = uuid.uuid4().hex
        try:
            if not get_store().add(_lock_name(lead.key), token.encode(), LEASE_SECONDS):
                return False
        except StoreUnavailable:
            return True
        lead.token = token
        self._keep_leases()
        return True

    def _keep_leases(self) -> None:
        if self._keeper is None:
            with self._lock:
                if self._keeper is None:
                    self._keeper = threading.Thread(
                        target=self._renew, args=(self._led,), name="flights", daemon=True
                    )
                    self._keeper.start()

    def _renew(self, led: dict[str, Lead]) -> None:
        while led is self._led:
            time.sleep(RENEW_EVERY_SECONDS)
            for lead in list(led.values()):
                if not (token := lead.token):
                    continue
                try:
                    get_store().renew_if(_lock_name(lead.key), token.encode(), LEASE_SECONDS)
                except StoreUnavailable:
                    break

    def _begin(self) -> None:
        self._led = {}
        self._keeper = None
        self._lock = threading.Lock()


def _lock_name(key: str) -> str:
    return f"{key}:lock"


FLIGHTS = Flights()
