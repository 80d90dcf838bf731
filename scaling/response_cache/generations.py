"""Invalidate cached answers by generations, in every process within POLL_SECONDS.

A generation is a counter in the store that rises when answers are cleared: all, a chain's or an
account's. The counters are part of every answer's key, so no entry from before is found again.
"""

from __future__ import annotations

import logging
import uuid

from config.background import BackgroundThread
from scaling.response_cache.store import ALL, StoreUnavailable, get_store

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25


class Generations(BackgroundThread):
    """A process's copy of the counters, refreshed by one daemon thread (a greenlet under gevent).

    While the store is unavailable the last copy stands: nothing can be cleared then either. A
    process without a copy has a generation of its own, so that it finds no entry that was cleared
    before, and no other process finds an entry that it stores until it has one.
    """

    name = "cache-generations"
    interval_seconds = POLL_SECONDS

    def reset(self) -> None:
        """Drop this process's copy."""
        super().reset()
        self._by_name: dict[str, int] = {}
        self._unknown = uuid.uuid4().hex

    def generation(self, *, chain: str, account: str) -> str:
        """Return the part of a key that clearing changes."""
        self.start()
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

    prepare = tick = refresh


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
