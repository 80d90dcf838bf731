"""Invalidate cached answers by generations, in every process within POLL_SECONDS.

A generation is a counter in the store that rises when answers are cleared: all, a chain's or an
account's. The counters are part of every answer's key, so no entry from before is found again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid

from scaling.response_cache.store import ALL, StoreUnavailable, get_store

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25


class Generations:
    """A process's copy of the counters, refreshed by one daemon thread (a greenlet under gevent).

    While the store is unavailable the last copy stands: nothing can be cleared then either. A
    process without a copy has a generation of its own, so that it finds no entry that was cleared
    before, and no other process finds an entry that it stores until it has one.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, int]
        self._unknown: str
        self._thread: threading.Thread | None
        self._lock: threading.Lock
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def generation(self, *, chain: str, account: str) -> str:
        """Return the part of a key that clearing changes."""
        if self._thread is None:
            self._start()
        counters = self._by_name
        if not counters:
            return self._unknown
        return f"{counters.get(ALL, 0)}.{counters.get(chain, 0)}.{counters.get(account, 0)}"

    def refresh(self) -> None:
        """Read the counters now."""
        try:
            self._by_name = get_store().read_generations()
        except StoreUnavailable as error:
            logger.debug("the generations of the cache stay unchanged: %s", error)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self.refresh()
                self._thread = threading.Thread(
                    target=self._watch, name="cache-generations", daemon=True
                )
                self._thread.start()

    def _watch(self) -> None:
        lock = self._lock
        while lock is self._lock:
            time.sleep(POLL_SECONDS)
            self.refresh()

    def _begin(self) -> None:
        self._by_name = {}
        self._unknown = uuid.uuid4().hex
        self._thread = None
        self._lock = threading.Lock()


GENERATIONS = Generations()


def chain_counter(slug: str) -> str:
    """Return the name of a chain's generation counter."""
    return f"chain:{slug}"


def account_counter(account_id: object) -> str:
    """Return the name of an account's generation counter."""
    return f"account:{account_id}"


def clear(name: str) -> None:
    """Invalidate every answer below this counter: `all`, a chain's or an account's.

    Raises StoreUnavailable. Takes effect in this process at once, in others within POLL_SECONDS.
    """
    get_store().bump_generation(name)
    GENERATIONS.refresh()
