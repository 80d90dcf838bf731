"""A small cache inside the process, for values that every request needs and that seldom change."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class _Lookups(Collector):
    """Counts of lookups by cache and result, which cost a hit no more than an addition.

    prometheus_client's own counters take a lock and a call each time.
    """

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], list[int]] = {}

    def cell(self, cache: str, result: str) -> list[int]:
        """Return the list whose only number is the count."""
        return self._cells.setdefault((cache, result), [0])

    def collect(self) -> Iterator[Metric]:
        """Yield the counts for Prometheus."""
        family = CounterMetricFamily(
            "headrace_near_cache_lookups",
            "Lookups in the caches inside the process, by how they were answered.",
            labels=["cache", "result"],
        )
        for labels, cell in self._cells.items():
            family.add_metric(labels, cell[0])
        yield family


LOOKUPS = _Lookups()
REGISTRY.register(LOOKUPS)


class LoadingCache(Generic[K, V]):
    """Caches the values of `load` for `ttl_seconds`, counted from the start of the load.

    A value is therefore never older than its TTL when it is returned. Any number of callers that
    miss the same key at once share one load: its value, or its exception, which is not cached.
    `load` returns None for a key that does not exist. That is cached too (negative caching), but
    apart, so that a flood of invalid keys evicts no valid one: values and absent keys may have
    `max_entries` each, and the least recently used entry is evicted first.

    Threads and greenlets may share a cache; `before_wait` is called before a caller waits for
    another's load. `load` must not get the same key from the cache.
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
        before_wait: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._before_wait = before_wait
        self._ttl_seconds = ttl_seconds
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._present: OrderedDict[K, tuple[V | None, float]] = OrderedDict()
        self._absent: OrderedDict[K, tuple[V | None, float]] = OrderedDict()
        self._flights: dict[K, _Flight[V]] = {}
        self._hits = LOOKUPS.cell(name, "hit")
        self._misses = LOOKUPS.cell(name, "miss")
        self._shared = LOOKUPS.cell(name, "shared")
        self._failed = LOOKUPS.cell(name, "failed")

    def __len__(self) -> int:
        return len(self._present) + len(self._absent)

    def __contains__(self, key: K) -> bool:
        """Return whether a value is cached, however old."""
        return key in self._present

    def get(self, key: K) -> V | None:
        """Return the value, or None when there is none; raises the errors of `load`."""
        # Without the lock, which costs more than the look: each step is one operation of a dict.
        entry = self._present.get(key)
        if entry is not None and self._clock() < entry[1]:
            try:
                self._present.move_to_end(key)
            # Another thread has just evicted it; the value is as good as it was.
            except KeyError:
                return entry[0]
            self._hits[0] += 1
            return entry[0]
        return self._get_or_load(key)

    def _get_or_load(self, key: K) -> V | None:
        while True:
            with self._lock:
                for entries in (self._present, self._absent):
                    entry = entries.get(key)
                    if entry is not None and self._clock() < entry[1]:
                        entries.move_to_end(key)
                        self._hits[0] += 1
                        return entry[0]
                flight = self._flights.get(key)
                is_leader = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if is_leader:
                return self._lead(key, flight)
            self._shared[0] += 1
            self._before_wait()
            flight.over.wait()
            if flight.error is not None:
                raise flight.error
            if flight.has_landed:
                return flight.value
            # The leader's greenlet was killed, which says nothing about the key: load again.

    def drop(self, key: K) -> None:
        """Remove one key, and ignore the result of a load under way, which may be out of date."""
        with self._lock:
            self._present.pop(key, None)
            self._absent.pop(key, None)
            self._flights.pop(key, None)

    def clear(self) -> None:
        """Remove all keys."""
        with self._lock:
            self._present.clear()
            self._absent.clear()
            self._flights.clear()

    def _lead(self, key: K, flight: _Flight[V]) -> V | None:
        started = self._clock()
        self._misses[0] += 1
        try:
            flight.value = self._load(key)
            flight.has_landed = True
        except Exception as error:
            self._failed[0] += 1
            flight.error = error
            raise
        finally:
            with self._lock:
                # After `drop` later callers have begun a load of their own.
                if self._flights.get(key) is flight:
                    del self._flights[key]
                    if flight.has_landed:
                        self._put(key, flight.value, started + self._ttl_seconds)
            flight.over.set()
        return flight.value

    def _put(self, key: K, value: V | None, fresh_until: float) -> None:
        entries, others = self._present, self._absent
        if value is None:
            entries, others = others, entries
        others.pop(key, None)
        entries[key] = (value, fresh_until)
        entries.move_to_end(key)
        while len(entries) > self._max_entries:
            entries.popitem(last=False)


class _Flight(Generic[V]):
    """One load under way."""

    __slots__ = ("error", "has_landed", "over", "value")

    def __init__(self) -> None:
        self.over = threading.Event()
        self.value: V | None = None
        self.error: Exception | None = None
        self.has_landed = False
