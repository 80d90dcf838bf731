"""Count cached answers against a key's limits without a call of Redis each time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from prometheus_client import Counter
from redis.exceptions import TimeoutError as RedisTimeoutError

from access.limits import shared
from access.limits.admission import LOCAL, LOCAL_LIMITER, refusal
from access.limits.hit_state import HitState
from access.principal import Limits
from config.background import BackgroundThread
from scaling.redis_client import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from access.limits.verdict import Verdict
    from access.principal import Principal

MAX_KEYS = 10_000
# Keys in one pipeline: about 5 ms of Redis's time.
MAX_REPORTED_AT_ONCE = 256
# A key's state in memory is fresh for so many sync periods after an answer of Redis.
FRESH_SYNCS = 3
MAX_QUEUED_SECONDS = 60.0

DROPPED = Counter(
    "headrace_limits_hits_dropped",
    "Hits that Redis may not have counted: unavailable for a minute, or a call unanswered.",
    ["reason"],
)
for _reason in ("away", "unanswered"):
    DROPPED.labels(_reason)
SYNC_FAILURES = Counter(
    "headrace_limits_sync_failures", "Rounds of reporting hits to Redis that failed."
)


class HitVerdict(NamedTuple):
    """A hit that was counted and may be answered; `headers` go with the response."""

    headers: dict[str, str]


class DeferredLimiter(BackgroundThread):
    """Decides about hits from memory, and reports them to Redis every `sync_seconds`.

    The first hit of a key without a fresh state is decided by Redis, exactly as `admit` does. Later
    ones are decided by Redis's last answer and the hits that passed here since. The thread reports
    all hits, and gets in the answers the counts of other processes. It starts with the first key; a
    forked child drops its parent's hits, which the parent reports.

    Invariant: of any window of T seconds, this process lets pass no more than `limit * (1 + T/60)`
    requests of a key, less those of other processes that Redis has reported to it. Not yet reported
    are those that they passed within the last two periods and round trips (each process reports
    late, and gets its answer late), so the excess of N processes is at most N - 1 times what one
    passes in that time; Redis, which decides about misses, counts as a process. The excess becomes
    a debt in Redis that time pays off before any request passes again, so that in the long run none
    passes beyond the limit.

    While Redis is unavailable, fresh states are used for `FRESH_SYNCS` periods, then LocalLimiter
    decides, with full limits; only the thread finds out when Redis is back. Hits wait at most
    `MAX_QUEUED_SECONDS` to be reported. A call that Redis left unanswered is not repeated: most
    likely it has counted, or will when Redis wakes up.
    """

    name = "deferred-limiter"

    def __init__(
        self,
        *,
        sync_seconds: float | None = None,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fixed_sync_seconds = sync_seconds
        self._max_keys = max_keys
        self._clock = clock
        super().__init__()

    def reset(self) -> None:
        """Drop all states, also hits that were not reported."""
        super().reset()
        self._lock = threading.Lock()
        self._states: OrderedDict[UUID, HitState] = OrderedDict()
        self._touched: list[HitState] = []
        self._is_redis_down = False

    def __len__(self) -> int:
        return len(self._states)

    def count(self, principal: Principal) -> HitVerdict:
        """Count a hit; raises LimitExceeded (429) as `admit` does for a model call.

        No slot is taken and no tokens are used, but a key whose tokens are used up is refused.
        """
        limits = principal.limits
        if not (limits.requests_per_minute or limits.tokens_per_day):
            return HitVerdict({})
        verdict = None
        with self._lock:
            now = self._clock()
            state = self._states.get(principal.key_id)
            if state is not None and state.is_fresh(limits, now):
                if not state.is_touched:
                    self._touch(state)
                headers = state.take(now)
                if headers is not None:
                    return HitVerdict(headers)
                verdict = state.verdict(now)
        applied = Limits(
            requests_per_minute=limits.requests_per_minute, tokens_per_day=limits.tokens_per_day
        )
        if verdict is None:
            verdict = self._admit_remote(principal.key_id, applied, limits)
        if verdict.refused_by is None:
            return HitVerdict(verdict.headers(applied))
        raise refusal(verdict.refused_by, verdict, applied)

    def sync_once(self) -> str:
        """Flush local counts to Redis; return a one-line summary."""
        try:
            if self._is_redis_down:
                # No hits go to a server that may be frozen: each attempt might count in the end.
                shared.ping()
                self._is_redis_down = False
            hits = keys = 0
            # As many rounds as there are now: a key that Redis refuses to count is touched again at
            # once.
            for _ in range(0, len(self._touched), MAX_REPORTED_AT_ONCE):
                states = self._next_touched()
                hits += self._flush(states)
                keys += len(states)
        except RedisUnavailable as error:
            SYNC_FAILURES.inc()
            return f"could not report hits: {error}"
        finally:
            self._drop_expired()
            self._evict_idle()
        return f"reported {hits} hits of {keys} keys"

    def tick(self) -> None:
        """Flush local counts to Redis."""
        self.sync_once()

    def count_failure(self) -> None:
        """Count a round that failed."""
        SYNC_FAILURES.inc()

    @property
    def interval_seconds(self) -> float:
        """The time between two reports."""
        if self._fixed_sync_seconds is not None:
            return self._fixed_sync_seconds
        seconds: float = settings.LIMIT_SYNC_SECONDS
        return seconds

    def _touch(self, state: HitState) -> None:
        # A state in the list is reported even if it is evicted before.
        if not state.is_touched:
            state.is_touched = True
            self._touched.append(state)

    def _admit_remote(self, key_id: UUID, applied: Limits, limits: Limits) -> Verdict:
        if self._is_redis_down:
            return self._admit_local(key_id, applied)
        with self._lock:
            state = self._state(key_id, limits)
            has_queued = state.queued > 0
            if not has_queued:
                state.unreported += 1
        if has_queued:
            return self._flush_then_admit(state, applied)
        answer = None
        sent_at = self._clock()
        try:
            answer = shared.admit(key_id=key_id, limits=applied, lease="")
        except RedisUnavailable:
            self._is_redis_down = True
        finally:
            with self._lock:
                state.unreported -= 1
                if answer is not None and state.limits == limits:
                    self._apply_remote(state, answer, int(answer.refused_by is None), sent_at)
        return answer or self._admit_local(key_id, applied)

    def _flush_then_admit(self, state: HitState, applied: Limits) -> Verdict:
        # The thread is late, or the limits have changed: these hits must be reported first.
        try:
            self._flush([state])
        except RedisUnavailable:
            return self._admit_local(state.key_id, applied)
        with self._lock:
            now = self._clock()
            if now < state.fresh_until:
                if state.take(now) is None:
                    return state.verdict(now)
                self._touch(state)
                return state.verdict(now)._replace(refused_by=None)
        return self._admit_local(state.key_id, applied)

    def _admit_local(self, key_id: UUID, applied: Limits) -> Verdict:
        LOCAL.labels("hit").inc()
        return LOCAL_LIMITER.admit(key_id=key_id, limits=applied, holder=self)

    def _state(self, key_id: UUID, limits: Limits) -> HitState:
        state = self._states.get(key_id)
        if state is None:
            state = self._states[key_id] = HitState(key_id, limits)
            if len(self._states) > self._max_keys:
                self._states.popitem(last=False)
        elif state.limits != limits:
            state.set_limits(limits)
        self.start()
        return state

    def _next_touched(self) -> list[HitState]:
        with self._lock:
            states = self._touched[:MAX_REPORTED_AT_ONCE]
            del self._touched[:MAX_REPORTED_AT_ONCE]
            for state in states:
                state.is_touched = False
                if self._states.get(state.key_id) is state:
                    self._states.move_to_end(state.key_id)
        return states

    def _flush(self, states: Sequence[HitState]) -> int:
        """Report these keys in one round trip and return the number of hits."""
        with self._lock:
            reported = []
            for state in states:
                reported.append((state, state.limits, state.queued, state.queued_since))
                state.queued = 0
        sent_at = self._clock()
        answers: Sequence[Verdict | None] = [None] * len(reported)
        is_unanswered = False
        try:
            answers = shared.report(
                [(state.key_id, limits, count) for state, limits, count, _ in reported]
            )
        except RedisUnavailable as error:
            self._is_redis_down = True
            is_unanswered = isinstance(error.__cause__, RedisTimeoutError)
            raise
        finally:
            with self._lock:
                for (state, limits, count, since), answer in zip(reported, answers, strict=True):
                    if answer is not None and state.limits == limits:
                        state.unreported -= count
                        self._apply_remote(state, answer, count, sent_at)
                    elif answer is not None:
                        state.assume_counted(count)
                    elif is_unanswered:
                        state.assume_counted(count)
                        DROPPED.labels("unanswered").inc(count)
                    elif count:
                        state.queued += count
                        state.queued_since = since
                        self._touch(state)
        return sum(count for _, _, count, _ in reported)

    def _apply_remote(self, state: HitState, answer: Verdict, counted: int, sent_at: float) -> None:
        now = self._clock()
        state.apply_remote(
            answer,
            counted=counted,
            sent_at=sent_at,
            received_at=now,
            fresh_until=now + FRESH_SYNCS * self.interval_seconds,
        )

    def _drop_expired(self) -> None:
        with self._lock:
            oldest = self._clock() - MAX_QUEUED_SECONDS
            for state in self._touched:
                if state.queued and state.queued_since < oldest:
                    DROPPED.labels("away").inc(state.queued)
                    state.unreported -= state.queued
                    state.queued = 0

    def _evict_idle(self) -> None:
        # Those that were reported last are at the end.
        with self._lock:
            now = self._clock()
            while self._states:
                key_id, state = next(iter(self._states.items()))
                if state.unreported or now < state.fresh_until:
                    return
                del self._states[key_id]


DEFERRED_LIMITER = DeferredLimiter()


def count_hit(principal: Principal) -> HitVerdict:
    """Count a cached answer that is about to be sent; raises LimitExceeded (429).

    `requests_per_minute` counts it; `tokens_per_day` refuses it when the day is used up;
    `max_concurrent` does not matter. Most calls touch memory only; see DeferredLimiter for how
    exact that is, and for its behaviour without Redis. A call waits for Redis at most one timeout.
    """
    return DEFERRED_LIMITER.count(principal)
