"""Measure a process's memory, and return memory to the system."""

import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path

STATM = Path("/proc/self/statm")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# mallopt(3): by their numbers in glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
LARGE_BYTES = 128 * 1024
ARENAS = 2
# New objects that begin a collection. With Python's default of 700, the objects of some hundred
# streams, which live for seconds, are walked again and again.
YOUNG_OBJECTS = 10_000
# How often a process checks its size, and which growth is worth a full collection. That costs 3 to
# 25 ms, and far more where thousands of streams are open.
TRIM_SECONDS = 10.0
TRIM_GROWTH_BYTES = 8 * 1024 * 1024
# A process that stays large is trimmed less and less often, down to this: it needs its memory.
MAX_TRIM_SECONDS = 60.0


def rss_bytes() -> int:
    """Return this process's resident memory; 0 on a system without /proc."""
    try:
        return int(STATM.read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    except OSError:
        return 0


class MemoryTrimmer:
    """Returns the memory that a burst of requests took to the system.

    Python collects its oldest objects late, and glibc returns only the end of its heap by itself.
    Invariant: a process that is no larger than it was at `begin` is not trimmed, and one that still
    grows only each time that it has doubled: what makes it grow is in use.
    """

    def __init__(self) -> None:
        self.trims = 0
        self._releases: tuple[Callable[[], None], ...] = ()
        self._is_released = False
        self._least = 0
        self._trimmed = 0
        self._last = 0
        self._next_tick = 0.0
        self._pause = TRIM_SECONDS

    def begin(self, *releases: Callable[[], None]) -> None:
        """Measure the size that is normal; call it in the process itself, once it is warm.

        `releases` drop objects that hold memory of a burst for good, and can be made again. They
        are called once after a growth, when the process has settled and is still too large.
        """
        self._releases = releases
        _libc_call("malloc_trim", 0)
        self._least = self._trimmed = self._last = rss_bytes()

    def tick(self, now: float) -> None:
        """Trim a process that has grown; call it as often as is convenient."""
        if not self._least or now < self._next_tick:
            return
        last, self._last = self._last, rss_bytes()
        size = self._last
        self._least = min(self._least, size)
        is_growing = last + TRIM_GROWTH_BYTES < size < self._trimmed * 2
        if size <= self._least + TRIM_GROWTH_BYTES:
            self._trimmed, self._pause = size, TRIM_SECONDS
        elif is_growing:
            self._pause = TRIM_SECONDS
        else:
            self._trim(has_grown=size > self._trimmed + TRIM_GROWTH_BYTES)
        self._next_tick = now + self._pause

    def _trim(self, *, has_grown: bool) -> None:
        gc.collect()
        _libc_call("malloc_trim", 0)
        self.trims += 1
        before, self._trimmed = self._trimmed, rss_bytes()
        has_shrunk = self._trimmed < before - TRIM_GROWTH_BYTES
        self._is_released = self._is_released and not has_grown
        if has_grown or has_shrunk:
            self._pause = TRIM_SECONDS
        elif self._is_released:
            self._pause = min(self._pause * 2, MAX_TRIM_SECONDS)
        elif self._trimmed > self._least + TRIM_GROWTH_BYTES:
            self._is_released = True
            for release in self._releases:
                release()


MEMORY = MemoryTrimmer()


def bound_allocator() -> None:
    """Make malloc return large blocks to the system as soon as they are freed.

    glibc raises its thresholds with each large block that is freed, up to 32 MB, and gives each
    thread an arena: the memory of a burst of large bodies would never be returned. Fixed
    thresholds turn that off.
    """
    for parameter, value in (
        (M_MMAP_THRESHOLD, LARGE_BYTES),
        (M_TRIM_THRESHOLD, LARGE_BYTES),
        (M_ARENA_MAX, ARENAS),
    ):
        _libc_call("mallopt", parameter, value)


def _libc_call(name: str, *arguments: int) -> None:
    """Call a function of glibc's; with another C library, do nothing."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return
    function(*arguments)
