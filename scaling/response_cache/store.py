"""What a store of cached answers can do, and which one the settings choose."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from django.conf import settings

from config.cache_urls import is_memcached

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Generation counters a store keeps. One more, and `all` is bumped and the others are dropped, which
# makes all that they stood for useless at once.
MAX_GENERATIONS = 10_000
ALL = "all"


class StoreUnavailable(Exception):
    """The store gave no usable answer; do without it.

    `was_asked` False means that nothing changed there; True that it may have.
    """

    def __init__(self, message: str, *, was_asked: bool) -> None:
        super().__init__(message)
        self.was_asked = was_asked


class NotSupported(Exception):
    """This kind of store cannot do that."""


class Store(Protocol):
    """A place outside the process for cached answers, for locks and for generations.

    Keys are any text; up to 200 visible ASCII characters are the cheapest. Every method raises
    StoreUnavailable when the server is slow, gone, full or talks rubbish: after
    REDIS_TIMEOUT_SECONDS, or twice that when it must connect first, and at once for
    REDIS_RETRY_SECONDS after a failure.
    """

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values in the order of the keys; None for what is not there."""

    def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        """Keep a value for so long at most; one that is too large for the store is not kept."""

    def set_many(self, keys: Sequence[str], value: bytes, ttl_seconds: float) -> None:
        """Keep one small value under several keys; when it raises, some may have it."""

    def delete(self, key: str) -> None:
        """Forget a key, if it is there."""

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Take a lock: keep the value only if the key is not there, and return whether it was."""

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
        have had enough. What changes meanwhile may be missing, or come twice. Raises NotSupported
        where the server cannot tell.
        """


_chosen: list[Store] = []


def get_store() -> Store:
    """Return the process's store, the one that CACHE_URL names; it is made at the first call."""
    # Two threads may both make one; the first in the list is used by everybody.
    if not _chosen:
        _chosen.append(_make())
    return _chosen[0]


def reset() -> None:
    """Forget the process's store."""
    _chosen.clear()


# Two processes must not share a connection.
os.register_at_fork(after_in_child=reset)


def _make() -> Store:
    # Only the chosen one is imported: Memcached's client is an optional dependency.
    name = "memcached_store" if is_memcached(settings.CACHE_URL) else "redis_store"
    store: Store = import_module(f"scaling.response_cache.{name}").make_store()
    return store
