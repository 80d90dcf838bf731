"""The limiter of one process, for the time that Redis is unavailable."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING

from access.limits import gcra
from access.limits.verdict import CONCURRENCY_WAIT_SECONDS, DAY_SECONDS, MINUTE_SECONDS, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from access.principal import Limits

MAX_KEYS = 10_000


class LocalLimiter:
    """The shared limiter's rules, with each key's full limits, in memory.

    N processes may together admit N times a limit; an outage of Redis is no reason to refuse
    paying callers. It begins with nothing used, and its counts are not added to Redis later. It
    stores the `max_keys` keys used last. A running request is a weak reference to its `holder`: one
    that is collected without an end holds no slot.
    """

    def __init__(
        self,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_keys = max_keys
        self._clock = clock
        self._lock = threading.Lock()
        self._uses: OrderedDict[UUID, _Use] = OrderedDict()

    def __len__(self) -> int:
        return len(self._uses)

    def admit(self, *, key_id: UUID, limits: Limits, holder: object) -> Verdict:
        """Decide about one request; if it passes, count it and take its slot."""
        with self._lock:
            now = self._clock()
            use = self._use(key_id, now)
            interval = gcra.emission_interval(limits.requests_per_minute)
            # Further ahead than a minute only if the clock was set back.
            tat = min(max(use.tat, now), now + MINUTE_SECONDS)
            ahead = tat - now
            rate_wait = gcra.wait_seconds(ahead, interval)
            day_left = DAY_SECONDS - now % DAY_SECONDS
            refused_by, wait = None, 0.0
            if limits.tokens_per_day and use.tokens >= limits.tokens_per_day:
                refused_by, wait = "tokens_per_day", day_left
            elif rate_wait:
                refused_by, wait = "requests_per_minute", rate_wait
            elif limits.max_concurrent and len(use.holders) >= limits.max_concurrent:
                refused_by, wait = "max_concurrent", CONCURRENCY_WAIT_SECONDS
            else:
                use.tat = tat + interval
                ahead = use.tat - now
                if limits.max_concurrent:
                    use.holders.add(holder)
            remaining = gcra.remaining(ahead, interval)
            return Verdict(refused_by, wait, remaining, ahead, use.tokens, day_left)

    def finish(self, *, key_id: UUID, holder: object, tokens: int) -> None:
        """Release the slot, if there is one, and count the tokens."""
        with self._lock:
            use = self._use(key_id, self._clock())
            use.holders.discard(holder)
            use.tokens += tokens

    def clear(self) -> None:
        """Drop all counts."""
        with self._lock:
            self._uses.clear()

    def _use(self, key_id: UUID, now: float) -> _Use:
        use = self._uses.get(key_id)
        if use is None:
            use = self._uses[key_id] = _Use()
            if len(self._uses) > self._max_keys:
                self._uses.popitem(last=False)
        self._uses.move_to_end(key_id)
        day = int(now // DAY_SECONDS)
        if use.day != day:
            use.day, use.tokens = day, 0
        return use


class _Use:
    """One key's use: its theoretical arrival time, today's tokens, its running requests."""

    __slots__ = ("day", "holders", "tat", "tokens")

    def __init__(self) -> None:
        self.tat = 0.0
        self.day = 0
        self.tokens = 0
        self.holders: weakref.WeakSet[object] = weakref.WeakSet()
