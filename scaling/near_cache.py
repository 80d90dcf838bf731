"""A small cache inside the process, for what every request needs and what seldom changes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import Counter

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")

LOOKUPS = Counter(
    "headrace_near_cache_lookups",
    "Lookups in the caches inside the process, by how they were answered.",
    ["cache", "result"],
)


class NearCache(Generic[K, V]):
    """Keep what `load` returned for `ttl_seconds`, counted from the start of the load.

    A value is therefore never older than its TTL when it is handed out. Any number of callers who
    miss the same key at once share one load: its value, or its exception, which is not kept.
    `load` returns None for what does not exist; such answers are kept too, but on their own shelf,
    so that a flood of unknown keys pushes out none of the good ones. Each shelf holds
    `max_entries`, and the least recently used entry goes first.

    Threads and greenlets may share a cache. `load` must not ask the cache for the same key.
    Metric: headrace_near_cache_lookups_total by `name` and result: hit, miss (loaded), shared
    (waited for another's load), failed (the load raised).
    """

    def __init__(
        self,
        *,
        load: Callable[[K], V | None],
        ttl_seconds: float,
        max_entries: int,
        name: str = "other",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._ttl_seconds = ttl_seconds
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._present: OrderedDict[K, tuple[V | None, float]] = OrderedDict()
        self._absent: OrderedDict[K, tuple[V | None, float]] = OrderedDict()
        self._flights: dict[K, _Flight[V]] = {}
        self._hits = LOOKUPS.labels(name, "hit")
        self._misses = LOOKUPS.labels(name, "miss")
        self._shared = LOOKUPS.labels(name, "shared")
        self._failed = LOOKUPS.labels(name, "failed")

    def __len__(self) -> int:
        return len(self._present) + len(self._absent)

    def get(self, key: K) -> V | None:
        """Return the value, or None when there is none; raises whatever `load` raises."""
        while True:
            with self._lock:
                for shelf in (self._present, self._absent):
                    entry = shelf.get(key)
                    if entry is not None and self._clock() < entry[1]:
                        shelf.move_to_end(key)
                        self._hits.inc()
                        return entry[0]
                flight = self._flights.get(key)
                is_leader = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if is_leader:
                return self._lead(key, flight)
            self._shared.inc()
            flight.over.wait()
            if flight.error is not None:
                raise flight.error
            if flight.has_landed:
                return flight.value
            # The leader's greenlet was killed, which says nothing about the key: try again.

    def drop(self, key: K) -> None:
        """Forget one key, and the answer of a load that is under way: it may be out of date."""
        with self._lock:
            self._present.pop(key, None)
            self._absent.pop(key, None)
            self._flights.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._present.clear()
            self._absent.clear()
            self._flights.clear()

    def _lead(self, key: K, flight: _Flight[V]) -> V | None:
        started = self._clock()
        self._misses.inc()
        try:
            flight.value = self._load(key)
            flight.has_landed = True
        except Exception as error:
            self._failed.inc()
            flight.error = error
            raise
        finally:
            with self._lock:
                # Not ours any more after `drop`: later callers have begun a flight of their own.
                if self._flights.get(key) is flight:
                    del self._flights[key]
                    if flight.has_landed:
                        self._keep(key, flight.value, started + self._ttl_seconds)
            flight.over.set()
        return flight.value

    def _keep(self, key: K, value: V | None, fresh_until: float) -> None:
        shelf, other = self._present, self._absent
        if value is None:
            shelf, other = other, shelf
        other.pop(key, None)
        shelf[key] = (value, fresh_until)
        shelf.move_to_end(key)
        while len(shelf) > self._max_entries:
            shelf.popitem(last=False)


class _Flight(Generic[V]):
    """One load under way, and those who wait for it."""

    __slots__ = ("error", "has_landed", "over", "value")

    def __init__(self) -> None:
        self.over = threading.Event()
        self.value: V | None = None
        self.error: Exception | None = None
        self.has_landed = False
