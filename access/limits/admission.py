"""Admit a request within its key's limits, and release what it took."""

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

LOCAL_LIMITER = LocalLimiter()
LEASE_KEEPER = LeaseKeeper()


class Admission:
    """A request that was admitted; `finish` must be called before the last byte of its response.

    A client that waits for the end of a response then never finds its own slot still in use.
    `headers` go with the response. One request uses an Admission, in one greenlet at a time.
    """

    __slots__ = (
        "__weakref__",
        "_counts_tokens",
        "_has_local_slot",
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
        self._has_local_slot = False
        self._is_finished = False
        self._lease = ""
        self._tokens = 0

    def add_tokens(self, count: int) -> None:
        """Add tokens that the model used; `finish` counts them, later calls change nothing."""
        self._tokens += max(0, count)

    def take_slot(self, limits: Limits) -> None:
        """Take one of the key's concurrency slots, unless this one has one; raises LimitExceeded.

        For requests that call no model and last as long. One round trip, none without a limit.
        """
        if self._lease or self._has_local_slot or not limits.max_concurrent:
            return
        counts_tokens = self._counts_tokens
        alone = Limits(max_concurrent=limits.max_concurrent)
        verdict = self._admit(alone)
        self._counts_tokens = counts_tokens
        if verdict.refused_by is not None:
            raise refusal(verdict.refused_by, verdict, alone)

    def finish(self) -> None:
        """Release the request's slot and count its tokens; the second call does nothing.

        One round trip, or none if there is nothing to release or count. Never raises: without
        Redis the lease expires by itself, and the tokens are counted in this process.
        """
        if self._is_finished:
            return
        self._is_finished = True
        lease = self._lease
        tokens = self._tokens if self._counts_tokens else 0
        if lease:
            LEASE_KEEPER.release(lease)
        if self._has_local_slot:
            LOCAL_LIMITER.finish(key_id=self.key_id, holder=self, tokens=0)
        if not lease and not tokens:
            return
        try:
            shared.finish(key_id=self.key_id, lease=lease, tokens=tokens)
        except RedisUnavailable:
            LOCAL.labels("finish").inc()
            LOCAL_LIMITER.finish(key_id=self.key_id, holder=self, tokens=tokens)

    def _admit(self, limits: Limits) -> Verdict:
        """Return the shared limiter's verdict; this process's own while Redis is unavailable."""
        lease = uuid.uuid4().hex if limits.max_concurrent else ""
        self._counts_tokens = limits.tokens_per_day > 0
        try:
            verdict = shared.admit(key_id=self.key_id, limits=limits, lease=lease)
        except RedisUnavailable as error:
            LOCAL.labels("admit").inc()
            verdict = LOCAL_LIMITER.admit(key_id=self.key_id, limits=limits, holder=self)
            self._has_local_slot = limits.max_concurrent > 0
            # Redis may have taken the lease, too late for this call; then it must be released.
            self._lease = lease if error.may_have_run else ""
            return verdict
        if lease and verdict.refused_by is None:
            self._lease = lease
            LEASE_KEEPER.hold(lease, self)
        return verdict


def admit(principal: Principal, *, is_model_call: bool, needs_slot: bool = True) -> Admission:
    """Count a request against its key's limits; raises LimitExceeded (429).

    Limits of tokens and concurrency apply to model calls only; `needs_slot` False leaves out the
    latter, for a call that will be made in the background. One round trip to Redis, none for a key
    without limits. How exact this is:

    - requests (GCRA): the allowance fills evenly, so a key that rested may send its full minute at
      once, and from then on one each emission interval. Refused requests are not counted.
    - tokens: counted when a response ends, so those that were running when the day's tokens ran
      out finish: the day's limit is overshot by at most the tokens that they use.
    - concurrency: exact, but that a killed node's slots stay in use for `LEASE_SECONDS`.
    - Redis unavailable: each process applies the full limits by itself (LocalLimiter).
    """
    limits = principal.limits
    if not is_model_call:
        limits = Limits(requests_per_minute=limits.requests_per_minute)
    elif not needs_slot:
        limits = replace(limits, max_concurrent=0)
    admission = Admission(principal.key_id)
    if not (limits.requests_per_minute or limits.tokens_per_day or limits.max_concurrent):
        return admission
    verdict = admission._admit(limits)
    admission.headers = verdict.headers(limits)
    if verdict.refused_by is None:
        return admission
    admission.finish()
    raise refusal(verdict.refused_by, verdict, limits)


def refusal(limit: str, verdict: Verdict, limits: Limits) -> LimitExceeded:
    """Count a refusal by this limit and return the client's error."""
    REFUSED.labels(limit).inc()
    headers = verdict.headers(limits)
    # The SDKs prefer it to Retry-After, which has full seconds only.
    headers["retry-after-ms"] = str(max(1, round(verdict.wait_seconds * 1000)))
    return LimitExceeded(
        limit,
        allowed=getattr(limits, limit),
        retry_after_seconds=verdict.wait_seconds,
        headers=headers,
    )


def count_tokens(*, key_id: UUID, tokens: int) -> None:
    """Count tokens against a key's day that were used outside of a request; never raises.

    While Redis is unavailable they are not counted: the process that used them admits no requests.
    """
    if tokens <= 0:
        return
    try:
        shared.finish(key_id=key_id, lease="", tokens=tokens)
    except RedisUnavailable:
        LOCAL.labels("finish").inc()
