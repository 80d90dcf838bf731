"""Load shedding: refuse at once the requests that this process could answer only late.

A node with more requests than its processor can handle answers all of them late, and in the end
none in time. So the first part of each API request is watched: the time until its chain begins
(or, without one, its answer). No model takes part in it; on a node that keeps up it is a few
milliseconds. When it is long, and the event loop has had no rest, as many requests may be in that
part as get through it in the target time (Little's law), and others get a 503 with `Retry-After`.
Each answer has the limit in a header, so that the load balancer queues the rest. No caller is
refused because of another's requests: each may have an even share of the limit.

node.shedding_layer decides which requests may be refused. Requests that wait for their model, or
for another request's answer, do not count: they have been dispatched. Nor does the time that a
client takes to send its body.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gevent

from node.metrics import OVERLOAD_LIMIT, OVERLOAD_REFUSED

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.1
# So few take milliseconds, by any figures.
MIN_LIMIT = 16
NO_LIMIT = math.inf
# Far more than a tick sees; a server whose ticks do not come must not collect them for ever.
MAX_DELAYS = 10_000
# Above this share of the time the event loop ran, or was ready to and waited for a processor.
BUSY_SHARE = 0.9
# A burst may be late. Delay above OVERDUE x target for LATE_TICKS ticks is a standing queue; then
# requests are refused until they are begun in the target time again.
OVERDUE = 4
LATE_TICKS = 2
# With rests, without a refusal, and far from its limit for so long, all is well again.
CALM_TICKS = 5
# How fast the limit is lifted while requests are begun in time.
GROWTH = 1.1
# A load balancer that obeys the limit sends so many more now and then.
SLACK = 1.25
# Of the limit, so much more may wait at the load balancer.
QUEUE_SHARE = 0.25
MAX_HIT_SHARE = 0.1
HEADER = "x-headrace-limit"
SCHEDSTAT = Path("/proc/self/schedstat")


@dataclass(frozen=True, slots=True)
class Interval:
    """The requests and the load of the last `seconds`.

    `delays` are the setup times of the requests that were dispatched, in seconds, `age` is the mean
    of those still in setup, and `in_setup` their number; `busy_share` is the share of the time in
    which the event loop ran or could have run. A hit is neither admitted nor refused.
    """

    seconds: float
    busy_share: float
    delays: Sequence[float]
    age: float
    in_setup: int
    admitted: int
    refused: int
    hits: int

    @property
    def delay(self) -> float:
        """Return the seconds that requests spend in setup, now or soon."""
        # Of the last one begun, if as many are dispatched as now.
        coming = self.in_setup * self.seconds / max(1, len(self.delays))
        return max(statistics.median(self.delays) if self.delays else 0.0, self.age, coming)

    @property
    def is_busy(self) -> bool:
        """Whether the event loop had next to no rest."""
        return self.busy_share >= BUSY_SHARE


@dataclass(frozen=True, slots=True)
class LimitState:
    """How many requests may be in setup, and whether answers announce it to the balancer."""

    limit: float = NO_LIMIT
    is_announced: bool = True
    late_ticks: int = 0
    calm_ticks: int = 0

    @property
    def is_on(self) -> bool:
        """Whether anything may be refused."""
        return self.limit != NO_LIMIT


def next_state(now: LimitState, tick: Interval, target_seconds: float) -> LimitState:
    """Return the state after a tick."""
    if not now.is_on:
        is_overdue = tick.is_busy and tick.delay > OVERDUE * target_seconds
        late_ticks = now.late_ticks + 1 if is_overdue else 0
        if late_ticks < LATE_TICKS:
            return LimitState(late_ticks=late_ticks)
    is_calm = not tick.is_busy and not tick.refused and tick.in_setup < now.limit / 2
    calm_ticks = now.calm_ticks + 1 if is_calm else 0
    if calm_ticks >= CALM_TICKS:
        return LimitState()
    limit = now.limit * GROWTH
    if tick.is_busy and tick.delay > target_seconds:
        # As many as are dispatched in the target time (Little's law).
        fitting = len(tick.delays) / tick.seconds * target_seconds
        limit = max(MIN_LIMIT, min(now.limit, fitting))
    # A balancer cannot distinguish hits, which cost nothing, from others.
    is_announced = tick.hits <= (tick.admitted + tick.refused) * MAX_HIT_SHARE
    return LimitState(limit=limit, is_announced=is_announced, calm_ticks=calm_ticks)


class LoadShedder:
    """Counts the requests in setup, limits them, and decides about new ones."""

    def __init__(self, *, target_seconds: float) -> None:
        self.target_seconds = target_seconds
        self.limit_state = LimitState()
        self.in_setup = 0
        # The same by caller, None for all that are not known.
        self._callers: Counter[Hashable | None] = Counter()
        # How many requests this process has not answered to the end, in setup or not.
        self.in_flight: Callable[[], int] = lambda: self.in_setup
        # Whether these are all that the load balancer has open here.
        self.is_alone: Callable[[], bool] = lambda: True
        # The sum of their beginnings, for their mean age.
        self._began = 0.0
        self._forget()

    def is_full(self, caller: Hashable | None = None) -> bool:
        """Return whether to refuse a new request of a caller; count a refusal.

        What is full is full of some callers' requests: a known one, that has less than its even
        share of the limit, is admitted all the same.
        """
        if self.in_setup < self.limit_state.limit * SLACK:
            return False
        if caller is not None and self._callers[caller] < self._even_share(caller):
            return False
        self._refused += 1
        OVERLOAD_REFUSED.inc()
        return True

    @property
    def delay_count(self) -> int:
        """The number of delays since the last tick."""
        return len(self._delays)

    def _even_share(self, caller: Hashable) -> float:
        """Return what each may have in setup if all with some, and this one, have as much."""
        return self.limit_state.limit / len(self._callers.keys() | {caller})

    def begin(self, now: float, caller: Hashable | None = None) -> SetupTimer:
        """Count a request into setup; `now` is a monotonic clock in seconds."""
        self._admitted += 1
        timer = SetupTimer(self, now, caller)
        self.join(now, caller)
        return timer

    def end(self, began: float, now: float, caller: Hashable | None = None) -> None:
        """Count a request out of setup."""
        self.leave(began, caller)
        self._delays.append(now - began)

    def leave(self, began: float, caller: Hashable | None) -> None:
        """Leave out a request that ends, or waits for its client."""
        self.in_setup -= 1
        # Rounding errors of sums must not stay.
        self._began = self._began - began if self.in_setup else 0.0
        self._callers[caller] -= 1
        if not self._callers[caller]:
            del self._callers[caller]

    def join(self, began: float, caller: Hashable | None) -> None:
        """Count a request in; after a wait for its client `began` is later by as long."""
        self.in_setup += 1
        self._began += began
        self._callers[caller] += 1

    def hit(self) -> None:
        """Count a hit, which costs next to nothing."""
        self._hits += 1

    def tick(self, now: float, *, seconds: float, busy_share: float) -> None:
        """Set the limit by the requests and the load of the last `seconds`."""
        age = now - self._began / self.in_setup if self.in_setup else 0.0
        tick = Interval(
            seconds,
            busy_share,
            self._delays,
            age,
            self.in_setup,
            self._admitted,
            self._refused,
            self._hits,
        )
        before, self.limit_state = (
            self.limit_state,
            next_state(self.limit_state, tick, self.target_seconds),
        )
        self._forget()
        OVERLOAD_LIMIT.set(self.limit_state.limit)
        if self.limit_state.is_on and not before.is_on:
            logger.warning("this process is overloaded; some requests get a 503")
        elif before.is_on and not self.limit_state.is_on:
            logger.info("this process is no longer overloaded")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The header for the load balancer: how many requests to send, and to queue."""
        if not self.limit_state.is_on or not self.limit_state.is_announced or not self.is_alone():
            return []
        elsewhere = max(0, self.in_flight() - self.in_setup)
        # Growth has no bound, and the numbers that matter are less than one process may have open.
        limit = min(self.limit_state.limit, MAX_DELAYS)
        sent, waiting = round(elsewhere + limit), round(limit * QUEUE_SHARE)
        return [(HEADER, f"{sent} {waiting}")]

    def _forget(self) -> None:
        self._delays: deque[float] = deque(maxlen=MAX_DELAYS)
        self._admitted = self._refused = self._hits = 0

    def run(self) -> None:
        """Tick for ever."""
        at, busy = time.monotonic(), busy_seconds()
        while True:
            gevent.sleep(TICK_SECONDS)
            now, busy_now = time.monotonic(), busy_seconds()
            self.tick(now, seconds=now - at, busy_share=(busy_now - busy) / (now - at))
            at, busy = now, busy_now


class SetupTimer:
    """The time that one request is in setup."""

    __slots__ = ("_began", "_caller", "_paused_at", "_shedder")

    def __init__(self, shedder: LoadShedder, began: float, caller: Hashable | None) -> None:
        self._shedder: LoadShedder | None = shedder
        self._began = began
        self._caller = caller
        self._paused_at: float | None = None

    def end(self) -> None:
        """End the setup; a second call does nothing."""
        self.resume()
        if self._shedder is not None:
            self._shedder.end(self._began, time.monotonic(), self._caller)
            self._shedder = None

    def pause(self) -> None:
        """Stop the time while the request waits for its client; a second call does nothing."""
        if self._shedder is not None and self._paused_at is None:
            self._paused_at = time.monotonic()
            self._shedder.leave(self._began, self._caller)

    def resume(self) -> None:
        """Let the time go on after a pause, if there is one."""
        if self._shedder is not None and self._paused_at is not None:
            self._began += time.monotonic() - self._paused_at
            self._paused_at = None
            self._shedder.join(self._began, self._caller)


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
