"""Count cached answers against a key's limits without asking Redis each time."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from prometheus_client import Counter
from redis.exceptions import TimeoutError as RedisTimeoutError

from access.limits import shared
from access.limits.admission import LOCAL, local_limiter, refusal
from access.limits.hit_state import HitState
from access.principal import Limits
from scaling.redis_client import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from access.limits.verdict import Verdict
    from access.principal import Principal

logger = logging.getLogger(__name__)

MAX_KEYS = 10_000
# Keys told of in one pipeline: about 5 ms of Redis's time.
MAX_TOLD_AT_ONCE = 256
# A key is decided about from memory for so many sync periods after Redis was heard.
KNOWN_SYNCS = 3
KEEP_PENDING_SECONDS = 60.0

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
    """A hit that was counted and may be answered; `headers` go with the answer."""

    headers: dict[str, str]


class HitCounter:
    """Decide about hits from memory, and tell Redis of them every `sync_seconds`.

    The first hit of a key that was not heard of for `KNOWN_SYNCS` periods asks Redis, exactly as
    `admit` does. Later ones go by what Redis said last and what passed here since. One daemon
    thread a process (a greenlet under gevent) tells Redis of all of them and learns from its
    answers what others counted. It starts with the first key, also after a fork; a forked child
    forgets its parent's hits, which the parent tells.

    Invariant: of any window of T seconds, this process lets pass no more than `limit * (1 + T/60)`
    requests of a key, less what it knows of other processes. What it cannot know yet is what they
    passed within the last two periods and round trips (they tell late, and it hears late), so
    the excess of N processes is at most N - 1 times what one passes in that time; Redis, which
    decides about misses, counts as a process. The excess becomes a debt in Redis that time pays
    off before anything passes again, so that in the long run nothing passes beyond the limit.

    Redis away: known keys go on for `KNOWN_SYNCS` periods, then LocalLimiter decides, with full
    limits; only the thread finds out when Redis is back. Hits not told wait at most
    `KEEP_PENDING_SECONDS`. A call that Redis left unanswered is not made again: most likely it
    has counted, or will when it wakes up.
    """

    def __init__(
        self,
        *,
        sync_seconds: float | None = None,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given_sync_seconds = sync_seconds
        self._max_keys = max_keys
        self._clock = clock
        self._lock: threading.Lock
        self._states: OrderedDict[UUID, HitState]
        self._touched: list[HitState]
        self._is_away: bool
        self._thread: threading.Thread | None
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def __len__(self) -> int:
        return len(self._states)

    def count(self, principal: Principal) -> HitVerdict:
        """Count a hit; raises LimitExceeded (429) as `admit` does for a model call.

        No place is taken and no tokens are used, but a key whose tokens are used up is refused.
        """
        limits = principal.limits
        if not (limits.requests_per_minute or limits.tokens_per_day):
            return HitVerdict({})
        verdict = None
        with self._lock:
            now = self._clock()
            state = self._states.get(principal.key_id)
            if state is not None and state.is_known(limits, now):
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
            verdict = self._ask(principal.key_id, applied, limits)
        if verdict.refused_by is None:
            return HitVerdict(verdict.headers(applied))
        raise refusal(verdict.refused_by, verdict, applied)

    def sync_once(self) -> str:
        """Tell Redis of all hits now and return what was done, in a sentence."""
        try:
            if self._is_away:
                # Hits are not told to a server that may be frozen: each try might count in the end.
                shared.ping()
                self._is_away = False
            hits = keys = 0
            # As many rounds as there are now: what Redis refuses to count is touched again at once.
            for _ in range(0, len(self._touched), MAX_TOLD_AT_ONCE):
                states = self._next_touched()
                hits += self._tell(states)
                keys += len(states)
        except RedisUnavailable as error:
            SYNC_FAILURES.inc()
            return f"could not report hits: {error}"
        finally:
            self._drop_old()
            self._forget_idle()
        return f"reported {hits} hits of {keys} keys"

    def clear(self) -> None:
        """Forget everything, also what was not told."""
        with self._lock:
            self._states.clear()
            self._touched.clear()
            self._is_away = False

    @property
    def _sync_seconds(self) -> float:
        if self._given_sync_seconds is not None:
            return self._given_sync_seconds
        seconds: float = settings.LIMIT_SYNC_SECONDS
        return seconds

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._states = OrderedDict()
        self._touched = []
        self._is_away = False
        self._thread = None

    def _touch(self, state: HitState) -> None:
        # What is in the list is told also if it is evicted meanwhile.
        if not state.is_touched:
            state.is_touched = True
            self._touched.append(state)

    def _ask(self, key_id: UUID, applied: Limits, limits: Limits) -> Verdict:
        if self._is_away:
            return self._ask_locally(key_id, applied)
        with self._lock:
            state = self._state(key_id, limits)
            has_pending = state.pending > 0
            if not has_pending:
                state.untold += 1
        if has_pending:
            return self._ask_after_telling(state, applied)
        answer = None
        sent_at = self._clock()
        try:
            answer = shared.admit(key_id=key_id, limits=applied, lease="")
        except RedisUnavailable:
            self._is_away = True
        finally:
            with self._lock:
                state.untold -= 1
                if answer is not None and state.limits == limits:
                    self._learn(state, answer, int(answer.refused_by is None), sent_at)
        return answer or self._ask_locally(key_id, applied)

    def _ask_after_telling(self, state: HitState, applied: Limits) -> Verdict:
        # The thread is late, or the limits have changed: Redis must hear of these hits first.
        try:
            self._tell([state])
        except RedisUnavailable:
            return self._ask_locally(state.key_id, applied)
        with self._lock:
            now = self._clock()
            if now < state.known_until:
                if state.take(now) is None:
                    return state.verdict(now)
                self._touch(state)
                return state.verdict(now)._replace(refused_by=None)
        return self._ask_locally(state.key_id, applied)

    def _ask_locally(self, key_id: UUID, applied: Limits) -> Verdict:
        LOCAL.labels("hit").inc()
        return local_limiter.admit(key_id=key_id, limits=applied, holder=self)

    def _state(self, key_id: UUID, limits: Limits) -> HitState:
        state = self._states.get(key_id)
        if state is None:
            state = self._states[key_id] = HitState(key_id, limits)
            if len(self._states) > self._max_keys:
                self._states.popitem(last=False)
        elif state.limits != limits:
            state.set_limits(limits)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._keep_syncing, args=(self._states,), name="hit-counter", daemon=True
            )
            self._thread.start()
        return state

    def _next_touched(self) -> list[HitState]:
        with self._lock:
            states = self._touched[:MAX_TOLD_AT_ONCE]
            del self._touched[:MAX_TOLD_AT_ONCE]
            for state in states:
                state.is_touched = False
                if self._states.get(state.key_id) is state:
                    self._states.move_to_end(state.key_id)
        return states

    def _tell(self, states: Sequence[HitState]) -> int:
        """Tell of these keys in one round trip and return of how many hits."""
        with self._lock:
            told = []
            for state in states:
                told.append((state, state.limits, state.pending, state.pending_since))
                state.pending = 0
        sent_at = self._clock()
        answers: Sequence[Verdict | None] = [None] * len(told)
        is_unanswered = False
        try:
            answers = shared.tell_hits(
                [(state.key_id, limits, count) for state, limits, count, _ in told]
            )
        except RedisUnavailable as error:
            self._is_away = True
            is_unanswered = isinstance(error.__cause__, RedisTimeoutError)
            raise
        finally:
            with self._lock:
                for (state, limits, count, since), answer in zip(told, answers, strict=True):
                    if answer is not None and state.limits == limits:
                        state.untold -= count
                        self._learn(state, answer, count, sent_at)
                    elif answer is not None:
                        state.assume(count)
                    elif is_unanswered:
                        state.assume(count)
                        DROPPED.labels("unanswered").inc(count)
                    elif count:
                        state.pending += count
                        state.pending_since = since
                        self._touch(state)
        return sum(count for _, _, count, _ in told)

    def _learn(self, state: HitState, answer: Verdict, counted: int, sent_at: float) -> None:
        now = self._clock()
        state.learn(
            answer,
            counted=counted,
            sent_at=sent_at,
            received_at=now,
            known_until=now + KNOWN_SYNCS * self._sync_seconds,
        )

    def _drop_old(self) -> None:
        with self._lock:
            oldest = self._clock() - KEEP_PENDING_SECONDS
            for state in self._touched:
                if state.pending and state.pending_since < oldest:
                    DROPPED.labels("away").inc(state.pending)
                    state.untold -= state.pending
                    state.pending = 0

    def _forget_idle(self) -> None:
        # Those that were told of last are at the end.
        with self._lock:
            now = self._clock()
            while self._states:
                key_id, state = next(iter(self._states.items()))
                if state.untold or now < state.known_until:
                    return
                del self._states[key_id]

    def _keep_syncing(self, states: OrderedDict[UUID, HitState]) -> None:
        # gevent copies greenlets into a forked child; this one ends there, its hits are not the
        # child's to tell.
        never = threading.Event()
        while states is self._states:
            never.wait(self._sync_seconds)
            if states is not self._states:
                return
            try:
                self.sync_once()
            except Exception:
                SYNC_FAILURES.inc()
                logger.exception("reporting hits failed")


hit_counter = HitCounter()


def count_hit(principal: Principal) -> HitVerdict:
    """Count a cached answer that is about to be given; raises LimitExceeded (429).

    `requests_per_minute` counts it; `tokens_per_day` refuses it when the day is used up;
    `max_concurrent` does not matter. Most calls touch memory only; see HitCounter for how exact
    that is, and for what happens without Redis. A call waits for Redis at most one timeout.
    """
    return hit_counter.count(principal)
