"""Detect stalls of the event loop, and log the stack of each.

Each switch between greenlets records its time. A native thread samples that time: while a greenlet
has not yielded for half of EVENT_LOOP_STALL_SECONDS, the thread records its stack, and the switch
that ends a stall measures it. A queue of many short pieces of work is no stall.

A stall is time that the loop's own thread took: running, or waiting in a blocking call.
Time in which it was ready and had no processor does not count, nor does a process that was stopped.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import gevent
import greenlet
from django.conf import settings
from gevent.monkey import get_original, is_module_patched

from node.metrics import LOOP_STALL_SECONDS

logger = logging.getLogger(__name__)

_sleep: Callable[[float], None] = get_original("time", "sleep")
# gevent's own gives each greenlet an id.
_thread_id: Callable[[], int] = get_original("_thread", "get_ident")
_native_id: Callable[[], int] = get_original("_thread", "get_native_id")
_start_native_thread: Callable[..., int] = get_original("_thread", "start_new_thread")
_clock = time.perf_counter

# A loop that stalls for so long may never report it itself.
ENDLESS_SECONDS = 1.0
MAX_STALLS = 100
# With the default setting, those of a minute.
MAX_SAMPLES = 1200
MAX_FRAMES = 30
MAX_SCHEDSTAT_BYTES = 100
STOOD = "the event loop was blocked for"


@dataclass(frozen=True, slots=True)
class LoopSample:
    """Seconds that the loop's thread ran, and waited for a processor, until `at`.

    Without /proc only the clock is known; then all time counts.
    """

    at: float
    ran: float
    waited: float


@dataclass(frozen=True, slots=True)
class Stall:
    """One stall, measured by a switch: when the greenlet got the loop, for how long, and where."""

    began: float
    seconds: float
    ran: float
    waited: float
    stack: str


class Switches:
    """Greenlet's trace function, called within each switch of the loop's thread.

    Invariant: it takes no lock and switches to no greenlet.
    """

    __slots__ = ("_clock", "_hub", "_measure", "_stall_seconds", "began", "is_idle", "stalls")

    def __init__(
        self, hub: Any, stall_seconds: float, measure: Callable[[], tuple[float, float]]
    ) -> None:
        self._hub = hub
        self._stall_seconds = stall_seconds
        self._measure = measure
        self._clock = _clock
        self.began = _clock()
        self.is_idle = False
        self.stalls: deque[Stall] = deque(maxlen=MAX_STALLS)

    def __call__(self, event: str, greenlets: tuple[Any, Any]) -> None:
        now = self._clock()
        origin, target = greenlets
        began, self.began = self.began, now
        # The hub's own time is the time it waits for events.
        was_idle, self.is_idle = self.is_idle, target is self._hub
        if now - began > self._stall_seconds and not was_idle:
            stack = describe(origin.gr_frame)
            self.stalls.append(Stall(began, now - began, *self._measure(), stack))


class LoopGuard:
    """Watches the loop of the thread that makes it."""

    def __init__(self, *, stall_seconds: float, stack_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._stack_seconds = stack_seconds
        self._hub = gevent.get_hub()
        self._thread_id = _thread_id()
        # Stays open: each call that opens, reads or closes a file releases the interpreter's lock,
        # and has to wait for it.
        self._schedstat = _open_schedstat()
        self._sample_seconds = stall_seconds / 2
        self.switches = Switches(self._hub, stall_seconds, self._measure)
        self._samples = deque([LoopSample(_clock(), *self._measure())], maxlen=MAX_SAMPLES)
        # The stack of the greenlet that had the loop, and since when it had it.
        self._stack, self._stack_of = "", 0.0
        self._logged_stall = 0.0
        self._next_stack_at = 0.0

    def start(self) -> None:
        """Start to trace and to sample."""
        greenlet.settrace(self.switches)
        _start_native_thread(self._watch, ())

    def _watch(self) -> None:
        while True:
            _sleep(self._sample_seconds)
            self._sample()

    def _sample(self) -> None:
        """Record where the loop is, and report its stalls; runs in the native thread."""
        while self.switches.stalls:
            stall = self.switches.stalls.popleft()
            seconds = self._seconds_of(stall)
            if seconds > self._stall_seconds:
                stack = self._stack if stall.began == self._stack_of else stall.stack
                # Metrics and logs have locks, which are the loop's.
                self._hub.loop.run_callback_threadsafe(gevent.spawn, self._report, seconds, stack)
        ran, waited = self._measure()
        # Later than its figures: none of a stall that begins now is in them.
        sample = LoopSample(_clock(), ran, waited)
        self._samples.append(sample)
        began, is_idle = self.switches.began, self.switches.is_idle
        standing = _clock() - began
        if is_idle or standing < self._sample_seconds:
            return
        self._stack, self._stack_of = describe(sys._current_frames().get(self._thread_id)), began
        seconds = self._seconds_of(Stall(began, standing, sample.ran, sample.waited, self._stack))
        if seconds >= ENDLESS_SECONDS and began != self._logged_stall and self._may_log():
            self._logged_stall = began
            text = f"WARNING {__name__} {STOOD} {seconds:.2f} s so far: {self._stack}\n"
            os.write(2, text.encode())

    def _seconds_of(self, stall: Stall) -> float:
        """Return how long the loop's own thread took, at most."""
        ended = stall.began + stall.seconds
        within = [sample for sample in self._samples if stall.began < sample.at <= ended]
        earlier = [sample for sample in self._samples if sample.at <= stall.began]
        before = earlier[-1] if earlier else self._samples[0]
        ready = stall.seconds - (stall.waited - before.waited)
        # A blocking call lets this thread sample. A process that did neither was stopped.
        witnessed = (len(within) + 1) * self._sample_seconds
        return min(ready, max(stall.ran - before.ran, witnessed))

    def _report(self, seconds: float, stack: str) -> None:
        LOOP_STALL_SECONDS.observe(seconds)
        if self._may_log():
            logger.warning("%s %.2f s: %s", STOOD, seconds, stack)

    def _may_log(self) -> bool:
        now = _clock()
        if now < self._next_stack_at:
            return False
        self._next_stack_at = now + self._stack_seconds
        return True

    def _measure(self) -> tuple[float, float]:
        """Return the seconds that the loop's thread ran, and waited for a processor."""
        if self._schedstat is None:
            return _clock(), 0.0
        ran, waited, _ = os.pread(self._schedstat, MAX_SCHEDSTAT_BYTES, 0).split()
        return int(ran) / 1e9, int(waited) / 1e9


def _open_schedstat() -> int | None:
    try:
        return os.open(f"/proc/self/task/{_native_id()}/schedstat", os.O_RDONLY)
    except OSError:
        return None


def start() -> None:
    """Watch this thread's loop, unless it has none or the setting says 0."""
    if settings.EVENT_LOOP_STALL_SECONDS and is_module_patched("threading"):
        LoopGuard(
            stall_seconds=settings.EVENT_LOOP_STALL_SECONDS,
            stack_seconds=settings.EVENT_LOOP_STACK_SECONDS,
        ).start()


def describe(frame: FrameType | None) -> str:
    """Return a stack on one line, the innermost frame first."""
    frames: list[str] = []
    while frame is not None and len(frames) < MAX_FRAMES:
        code = frame.f_code
        path = code.co_filename.rpartition("site-packages/")[2]
        path = path.removeprefix(f"{settings.BASE_DIR}/")
        frames.append(f"{code.co_name} ({path}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(frames) or "no Python frame"
