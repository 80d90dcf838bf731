"""Let a request in, and see it out again."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from prometheus_client import Counter

from access.errors import LIMIT_CODES, LimitExceeded
from access.limits import shared
from access.limits.leases import LeaseKeeper
from access.limits.local import LocalLimiter
from access.principal import Limits
from scaling.redis_client import RedisUnavailable

if TYPE_CHECKING:
    from uuid import UUID

    from access.limits.verdict import Verdict
    from access.principal import Principal

LOCAL = Counter(
    "headrace_limits_local",
    "Times that Redis was unavailable: admit, finish or hit used local limits, tokens none.",
    ["step"],
)
REFUSED = Counter("headrace_limits_refused", "Requests refused, by the limit.", ["limit"])
for _limit in LIMIT_CODES:
    REFUSED.labels(_limit)
for _step in ("admit", "finish", "hit", "tokens"):
    LOCAL.labels(_step)

local_limiter = LocalLimiter()
lease_keeper = LeaseKeeper()


class Admission:
    """A request that was let in; `finish` must be called before the last byte of its answer.

    A client that waits for the end of an answer can then never find its own place still taken.
    `headers` go with the answer. One request uses an Admission, in one greenlet at a time.
    """

    __slots__ = (
        "__weakref__",
        "_counts_tokens",
        "_has_local_place",
        "_is_finished",
        "_lease",
        "_tokens",
        "headers",
        "key_id",
    )

    def __init__(self, key_id: UUID) -> None:
        self.key_id = key_id
        self.headers: dict[str, str] = {}
        self._counts_tokens = False
        self._has_local_place = False
        self._is_finished = False
        self._lease = ""
        self._tokens = 0

    def add_tokens(self, count: int) -> None:
        """Note tokens that the model used; `finish` counts them, later calls change nothing."""
        self._tokens += max(0, count)

    def take_slot(self, limits: Limits) -> None:
        """Hold one of the key's concurrent requests, unless this one does; raises LimitExceeded.

        For what is no model call and lasts as long as one. One round trip, none without a limit.
        """
        if self._lease or self._has_local_place or not limits.max_concurrent:
            return
        counts_tokens = self._counts_tokens
        alone = Limits(max_concurrent=limits.max_concurrent)
        verdict = self._enter(alone)
        self._counts_tokens = counts_tokens
        if verdict.refused_by is not None:
            raise refusal(verdict.refused_by, verdict, alone)

    def finish(self) -> None:
        """Free the request's place and count its tokens; the second time does nothing.

        One round trip, or none if there is nothing to free or count. Raises nothing: what Redis
        does not hear of frees itself (a lease) or is counted in this process (tokens).
        """
        if self._is_finished:
            return
        self._is_finished = True
        lease = self._lease
        tokens = self._tokens if self._counts_tokens else 0
        if lease:
            lease_keeper.release(lease)
        if self._has_local_place:
            local_limiter.finish(key_id=self.key_id, holder=self, tokens=0)
        if not lease and not tokens:
            return
        try:
            shared.finish(key_id=self.key_id, lease=lease, tokens=tokens)
        except RedisUnavailable:
            LOCAL.labels("finish").inc()
            local_limiter.finish(key_id=self.key_id, holder=self, tokens=tokens)

    def _enter(self, limits: Limits) -> Verdict:
        """Ask the shared limiter, or this process's own while Redis is away."""
        lease = uuid.uuid4().hex if limits.max_concurrent else ""
        self._counts_tokens = limits.tokens_per_day > 0
        try:
            verdict = shared.admit(key_id=self.key_id, limits=limits, lease=lease)
        except RedisUnavailable as error:
            LOCAL.labels("admit").inc()
            verdict = local_limiter.admit(key_id=self.key_id, limits=limits, holder=self)
            self._has_local_place = limits.max_concurrent > 0
            # Redis may have taken the lease, only too late for us; then it is to be released.
            self._lease = lease if error.may_have_run else ""
            return verdict
        if lease and verdict.refused_by is None:
            self._lease = lease
            lease_keeper.hold(lease, self)
        return verdict


def admit(principal: Principal, *, is_model_call: bool, needs_place: bool = True) -> Admission:
    """Count a request against its key's limits; raises LimitExceeded (429).

    Tokens and concurrency are asked of model calls only; `needs_place` False leaves out the
    latter, for a call that will be made in the background. One round trip to Redis, none for a key
    without limits. How exact this is:

    - requests: the allowance fills evenly, so a key that rested may send its whole minute at once,
      and from then on its share of each second. What is refused is not counted.
    - tokens: counted when an answer ends, so those that were running when the day's tokens ran
      out finish: the day's limit is overshot by at most what they use.
    - concurrency: exact, but that a killed node's places stay taken for `LEASE_SECONDS`.
    - Redis away: each process applies the full limits by itself (LocalLimiter).
    """
    limits = principal.limits
    if not is_model_call:
        limits = Limits(requests_per_minute=limits.requests_per_minute)
    elif not needs_place:
        limits = replace(limits, max_concurrent=0)
    admission = Admission(principal.key_id)
    if not (limits.requests_per_minute or limits.tokens_per_day or limits.max_concurrent):
        return admission
    verdict = admission._enter(limits)
    admission.headers = verdict.headers(limits)
    if verdict.refused_by is None:
        return admission
    admission.finish()
    raise refusal(verdict.refused_by, verdict, limits)


def refusal(limit: str, verdict: Verdict, limits: Limits) -> LimitExceeded:
    """Count a refusal by this limit and return the error that tells the client."""
    REFUSED.labels(limit).inc()
    headers = verdict.headers(limits)
    # The SDKs prefer it to Retry-After, which knows whole seconds only.
    headers["retry-after-ms"] = str(max(1, round(verdict.wait_seconds * 1000)))
    return LimitExceeded(
        limit,
        allowed=getattr(limits, limit),
        retry_after_seconds=verdict.wait_seconds,
        headers=headers,
    )


def count_tokens(*, key_id: UUID, tokens: int) -> None:
    """Count tokens against a key's day that were used outside of a request; raises nothing.

    While Redis is away they are not counted: the process that used them admits no requests.
    """
    if tokens <= 0:
        return
    try:
        shared.finish(key_id=key_id, lease="", tokens=tokens)
    except RedisUnavailable:
        LOCAL.labels("finish").inc()
