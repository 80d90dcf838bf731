"""The near cache: answers in the memory of a process, in front of the store."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable

V = TypeVar("V")

# The overhead of an entry: the ordered dictionary's node, the tuple and its numbers,
# and a key of 64 characters. Measured with CPython 3.11: 299.
OVERHEAD_BYTES = 300

BYTES = Gauge(
    "headrace_cache_near_bytes",
    "Memory that this process's cached answers take, with their overhead.",
)
ENTRIES = Gauge("headrace_cache_near_entries", "Cached answers in this process's memory.")


class MemoryStore(Generic[V]):
    """Caches the most recently used values, for `max_seconds` at most.

    Invariant: entries are at most `max_entries`, and their sizes with OVERHEAD_BYTES each at most
    `max_bytes`. Values that expired count until they are looked up or evicted.

    Threads and greenlets may share it. `get` takes no lock: each of its steps is one operation of a
    dictionary in C, which nothing interrupts, and between them a key may come or go.
    Metrics: headrace_cache_near_bytes and headrace_cache_near_entries, of the last one made.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        max_entries: int,
        max_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._max_seconds = max_seconds
        self._clock = clock
        self._lock = threading.Lock()
        # Value, until when, size; the least recently used first.
        self._entries: OrderedDict[str, tuple[V, float, int]] = OrderedDict()
        self._bytes = 0
        _show(self)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """The sizes of all entries, with their overhead."""
        return self._bytes

    def get(self, key: str) -> V | None:
        """Return the value, or None when there is none, or it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            self._drop_expired(key)
            return None
        try:  # noqa: SIM105 - suppress() costs as much as all the rest
            self._entries.move_to_end(key)
        except KeyError:
            # Another thread has just evicted it; the value is as good as it was.
            pass
        return entry[0]

    def put(self, key: str, value: V, size: int, seconds: float) -> None:
        """Cache a value of `size` bytes for so long; one that is larger than the store is left out.

        An earlier value of the key is removed in any case.
        """
        size += OVERHEAD_BYTES
        seconds = min(seconds, self._max_seconds)
        with self._lock:
            self._remove(key)
            if size > self._max_bytes or self._max_entries < 1 or seconds <= 0:
                return
            while len(self._entries) >= self._max_entries or self._bytes + size > self._max_bytes:
                self._bytes -= self._entries.popitem(last=False)[1][2]
            self._entries[key] = (value, self._clock() + seconds, size)
            self._bytes += size

    def drop(self, key: str) -> None:
        """Remove a key, if it is there."""
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        """Remove all keys."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def _drop_expired(self, key: str) -> None:
        with self._lock:
            entry = self._entries.get(key)
            # Another thread may have put a new value there by now.
            if entry is not None and entry[1] <= self._clock():
                self._remove(key)

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[2]


def _show(store: MemoryStore[V]) -> None:
    """Point the gauges at this store, for as long as it lives."""
    # The gauges live for ever; a strong reference would hold every value of a store out of use.
    reference = weakref.ref(store)

    def read(measure: Callable[[MemoryStore[V]], int]) -> float:
        alive = reference()
        return 0 if alive is None else measure(alive)

    BYTES.set_function(lambda: read(lambda alive: alive.bytes))
    ENTRIES.set_function(lambda: read(len))
