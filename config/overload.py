"""Refuse at once what this process could answer only late.

A node that is asked for more than its processor can do answers everything late, and in the end
nothing in time. So the first part of each API request is watched: the time until its chain begins
(or, without one, its answer). No model takes part in it; on a node that keeps up it is a few
milliseconds. When it is long, and the event loop has had no rest, as many requests may be in that
part as get through it in the target time (Little's law), and others get a 503 with `Retry-After`.

What is refused, and what never, is config.admission's. Requests that wait for their model, or for
another request's answer, do not count: they have got through.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

import gevent

from config.metrics import OVERLOAD_LIMIT, OVERLOAD_REFUSED

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.1
# So few are a matter of milliseconds, whatever the figures say.
MIN_LIMIT = 16
# Above this share of the time the event loop ran, or was ready to and waited for a processor.
BUSY_SHARE = 0.9
# How fast limits are lifted while requests get through in time.
GROWTH = 1.1
# How much of a change a tick's few requests may make.
SMOOTHING = 0.3
MIN_PASSING = 0.01
MAX_HIT_SHARE = 0.1
HEADER = "x-headrace-refuse"
NO_LIMIT = math.inf
SCHEDSTAT = Path("/proc/self/schedstat")
# A burst may be late; what lasts longer is a queue that stands.
LATE_TICKS = 2
# Without a refusal, and with rests, for so long, the limit is forgotten.
CALM_TICKS = 5


class Tick(NamedTuple):
    """What the last `seconds` saw.

    `delays` are those of the requests that got through their first part, in seconds, and `age` is
    the mean of those that did not yet; `busy_share` is the share of the time in which the event
    loop ran or could have run.
    """

    delays: list[float]
    age: float
    seconds: float
    busy_share: float
    admitted: int = 0
    refused: int = 0
    hits: int = 0


def is_late(tick: Tick, target_seconds: float) -> bool:
    """Say whether this process was too busy to begin requests in time."""
    delay = statistics.median(tick.delays) if tick.delays else 0.0
    return max(delay, tick.age) > target_seconds and tick.busy_share >= BUSY_SHARE


def next_limit(limit: float, tick: Tick, target_seconds: float) -> float:
    """Return how many requests may be begun at a time, from what was seen with `limit`."""
    if not is_late(tick, target_seconds):
        return limit * GROWTH
    return max(MIN_LIMIT, len(tick.delays) / tick.seconds * target_seconds)


def next_passing(passing: float, tick: Tick) -> float:
    """Return the share of requests that the load balancer should let through to this process.

    A tenth more than are admitted, so that it is still this process that decides. A balancer cannot
    tell hits from others; where there are many, all are let through.
    """
    arrived = tick.admitted + tick.refused
    if not tick.refused or tick.hits > arrived * MAX_HIT_SHARE:
        return min(1.0, passing * GROWTH)
    wanted = min(1.0, passing * GROWTH * tick.admitted / arrived)
    return max(MIN_PASSING, passing + (wanted - passing) * SMOOTHING)


class Overload:
    """How many requests this process has begun, and how many it may."""

    def __init__(self, *, target_seconds: float) -> None:
        self.target_seconds = target_seconds
        self.limit = NO_LIMIT
        self.passing = 1.0
        self.begun = 0
        # The sum of their beginnings, for their mean age.
        self._began = 0.0
        self._late_ticks = self._calm_ticks = 0
        self._forget()

    def is_full(self) -> bool:
        """Say whether to refuse a new request, and count it."""
        if self.begun < self.limit:
            return False
        self._refused += 1
        OVERLOAD_REFUSED.inc()
        return True

    def begin(self, now: float) -> Beginning:
        """Note that a request is being begun; `now` is a monotonic clock in seconds."""
        self.begun += 1
        self._began += now
        self._admitted += 1
        return Beginning(self, now)

    def end(self, began: float, now: float) -> None:
        """Note that a request got through its first part."""
        self.begun -= 1
        # Rounding errors of sums must not stay.
        self._began = self._began - began if self.begun else 0.0
        self._delays.append(now - began)

    def hit(self) -> None:
        """Note that a request cost next to nothing."""
        self._hits += 1

    def tick(self, now: float, *, seconds: float, busy_share: float) -> None:
        """Set the limit by what the last `seconds` have shown."""
        age = now - self._began / self.begun if self.begun else 0.0
        tick = Tick(
            self._delays, age, seconds, busy_share, self._admitted, self._refused, self._hits
        )
        self.passing = next_passing(self.passing, tick)
        if self.limit == NO_LIMIT:
            self._late_ticks = self._late_ticks + 1 if is_late(tick, self.target_seconds) else 0
            self._calm_ticks = 0
            if self._late_ticks >= LATE_TICKS:
                self._set(next_limit(self.limit, tick, self.target_seconds))
                logger.warning("more is asked than this process can do; some requests get a 503")
        else:
            is_calm = not tick.refused and tick.busy_share < BUSY_SHARE
            self._calm_ticks = self._calm_ticks + 1 if is_calm else 0
            self._late_ticks = 0
            if self._calm_ticks >= CALM_TICKS:
                self._set(NO_LIMIT)
                logger.info("requests are begun in time again")
            else:
                self._set(next_limit(self.limit, tick, self.target_seconds))
        self._forget()

    def _set(self, limit: float) -> None:
        self.limit = limit
        OVERLOAD_LIMIT.set(limit)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What answers tell the load balancer: how many of a hundred requests to refuse here."""
        if self.limit == NO_LIMIT:
            return []
        return [(HEADER, str(round(100 * (1 - self.passing))))]

    def _forget(self) -> None:
        self._delays: list[float] = []
        self._admitted = self._refused = self._hits = 0

    def run(self) -> None:
        """Tick for ever."""
        at, busy = time.monotonic(), busy_seconds()
        while True:
            gevent.sleep(TICK_SECONDS)
            now, busy_now = time.monotonic(), busy_seconds()
            self.tick(now, seconds=now - at, busy_share=(busy_now - busy) / (now - at))
            at, busy = now, busy_now


class Beginning:
    """The first part of one request."""

    __slots__ = ("_began", "_overload")

    def __init__(self, overload: Overload, began: float) -> None:
        self._overload: Overload | None = overload
        self._began = began

    def end(self) -> None:
        """Note that it is over; a second time is nothing."""
        if self._overload is not None:
            self._overload.end(self._began, time.monotonic())
            self._overload = None


OVERLOAD = Overload(target_seconds=0.0)
# The request that this greenlet, and those it starts, work for.
beginning: ContextVar[Beginning | None] = ContextVar("beginning", default=None)


def has_begun() -> None:
    """Note that this greenlet's request, if any, has come to what is not this process's work."""
    if (mine := beginning.get()) is not None:
        mine.end()


def busy_seconds() -> float:
    """Return how long this thread has run, or waited for a processor, since it began.

    The second is known on Linux only. Elsewhere a process that shares its processors with others
    looks less busy than it is.
    """
    try:
        ran, waited, _ = SCHEDSTAT.read_text().split()
    except OSError:
        return time.thread_time()
    return (int(ran) + int(waited)) / 1e9
