"""The interface of a store of cached answers, and the choice of one by the settings."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from django.conf import settings

from config.cache_urls import is_memcached

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Generation counters that a store holds. One more, and `all` is bumped and the others are dropped,
# which invalidates all entries at once.
MAX_GENERATIONS = 10_000
ALL = "all"


class StoreUnavailable(Exception):
    """The store gave no usable answer; do without it.

    `may_have_run` False means that nothing changed there.
    """

    def __init__(self, message: str, *, may_have_run: bool) -> None:
        super().__init__(message)
        self.may_have_run = may_have_run


class NotSupported(Exception):
    """This kind of store cannot do that."""


class Store(Protocol):
    """A server outside the process for cached answers, locks and generations.

    Keys are any text; up to 200 visible ASCII characters are the cheapest. Every method raises
    StoreUnavailable when the server is slow, gone or full, or its reply makes no sense: after
    REDIS_TIMEOUT_SECONDS, or twice that when it must connect first, and at once for
    REDIS_RETRY_SECONDS after a failure.
    """

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values in the order of the keys; None for a key that is not there."""

    def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        """Store a value for so long at most; one that is too large for the store is left out."""

    def set_many(self, keys: Sequence[str], value: bytes, ttl_seconds: float) -> None:
        """Store one small value under several keys; when it raises, some may have it."""

    def delete(self, key: str) -> None:
        """Delete a key, if it is there."""

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Take a lock: store the value only if the key is not there; return whether it did."""

    def renew_if(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Prolong a lock: only while the key holds this value; return whether it does."""

    def delete_if(self, key: str, value: bytes) -> bool:
        """Release a lock: only while the key holds this value; return whether it did."""

    def read_generations(self) -> dict[str, int]:
        """Return all generation counters by name; one that is not there is 0.

        `all` is always there, and begins with the time in milliseconds: a store that lost its
        counters never comes back to an earlier generation.
        """

    def bump_generation(self, name: str) -> None:
        """Begin a new generation of `all`, `chain:SLUG` or `account:UUID`."""

    def count(self) -> Iterator[list[tuple[str, int]]]:
        """Yield the keys, locks too, with their values' sizes in bytes, by small batches.

        A batch may be empty: the server has looked at keys that are not ours, and the caller may
        stop here. A key that changes in between may be missing, or come twice. Raises NotSupported
        where the server cannot list its keys.
        """


_chosen: list[Store] = []


def get_store() -> Store:
    """Return the process's store, that of CACHE_URL; it is made at the first call."""
    # Two threads may both make one; all use the first in the list.
    if not _chosen:
        _chosen.append(_make())
    return _chosen[0]


def reset() -> None:
    """Drop the process's store."""
    _chosen.clear()


# Two processes must not share a connection.
os.register_at_fork(after_in_child=reset)


def _make() -> Store:
    # Only the chosen one is imported: Memcached's client is an optional dependency.
    name = "memcached_store" if is_memcached(settings.CACHE_URL) else "redis_store"
    store: Store = import_module(f"scaling.response_cache.{name}").make_store()
    return store
