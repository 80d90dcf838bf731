"""One key's use as a process has it in memory, and the decisions by that between two syncs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from access.limits import gcra
from access.limits.verdict import DAY_SECONDS, MINUTE_SECONDS, Verdict, format_duration

if TYPE_CHECKING:
    from uuid import UUID

    from access.principal import Limits


class HitState:
    """One key's rate and tokens of Redis's last answer, and the requests that passed here since.

    Invariant: `unreported` requests passed here, or are being decided by Redis now, and none of its
    answers has counted them; `queued` of them wait to be reported. So the key's theoretical arrival
    time is at least `tat`, if that is not past, and an emission interval for each unreported one.
    All times are of one monotonic clock. Not thread-safe.
    """

    __slots__ = (
        "_applied_at",
        "_headers",
        "_interval",
        "_per_day",
        "_tokens_text_until",
        "day_ends_at",
        "fresh_until",
        "is_touched",
        "key_id",
        "limits",
        "queued",
        "queued_since",
        "tat",
        "tokens_used",
        "unreported",
    )

    def __init__(self, key_id: UUID, limits: Limits) -> None:
        self.key_id = key_id
        # Unknown yet: the first answer's latest possible time will be less.
        self.tat = math.inf
        self.fresh_until = -math.inf
        self._applied_at = -math.inf
        self.tokens_used = 0
        self.day_ends_at = 0.0
        self.unreported = 0
        self.queued = 0
        self.queued_since = 0.0
        self.is_touched = False
        self.set_limits(limits)

    def is_fresh(self, limits: Limits, now: float) -> bool:
        """Return whether it may decide by itself, for these limits."""
        return now < self.fresh_until and (limits is self.limits or limits == self.limits)

    def set_limits(self, limits: Limits) -> None:
        """Apply these limits from now on; the state is not fresh until the next answer."""
        self.limits = limits
        self.fresh_until = -math.inf
        self._per_day = limits.tokens_per_day
        self._interval = gcra.emission_interval(limits.requests_per_minute)
        self._tokens_text_until = -math.inf
        # Constant texts, and empty ones for the others, in the order of Verdict's.
        self._headers = {}
        if limits.requests_per_minute:
            self._headers["x-ratelimit-limit-requests"] = str(limits.requests_per_minute)
            self._headers["x-ratelimit-remaining-requests"] = ""
            self._headers["x-ratelimit-reset-requests"] = ""
        else:
            self.tat = math.inf

    def take(self, now: float) -> dict[str, str] | None:
        """Count one hit and return its headers, as Verdict has them; None if it may not pass."""
        if self._per_day:
            if self.tokens_used >= self._per_day:
                return None
            if now >= self._tokens_text_until:
                self._write_tokens(now)
        headers = self._headers.copy()
        if interval := self._interval:
            ahead = (self.tat - now if self.tat > now else 0.0) + self.unreported * interval
            if gcra.wait_seconds(ahead, interval):
                return None
            ahead += interval
            if not self.queued:
                self.queued_since = now
            self.unreported += 1
            self.queued += 1
            headers["x-ratelimit-remaining-requests"] = str(gcra.remaining(ahead, interval))
            headers["x-ratelimit-reset-requests"] = format_duration(ahead)
        return headers

    def verdict(self, now: float) -> Verdict:
        """Return the verdict of `admit` for one more request; counts nothing."""
        interval = self._interval
        ahead = max(self.tat - now, 0.0) + self.unreported * interval if interval else 0.0
        rate_wait = gcra.wait_seconds(ahead, interval)
        day_left = max(self.day_ends_at - now, 0.0)
        refused_by, wait = None, 0.0
        if self._per_day and self.tokens_used >= self._per_day:
            refused_by, wait = "tokens_per_day", day_left
        elif rate_wait:
            refused_by, wait = "requests_per_minute", rate_wait
        remaining = gcra.remaining(ahead, interval)
        return Verdict(refused_by, wait, remaining, ahead, self.tokens_used, day_left)

    def apply_remote(
        self,
        answer: Verdict,
        *,
        counted: int,
        sent_at: float,
        received_at: float,
        fresh_until: float,
    ) -> None:
        """Apply an answer of Redis that has counted `counted` more of this process's requests.

        Redis answered at some time between the two, so its times are exact to within the round
        trip; the state before narrows that down if no other process counted a request.
        """
        self.fresh_until = fresh_until
        if self._interval:
            earliest = sent_at + answer.requests_reset_seconds
            latest = received_at + answer.requests_reset_seconds
            if sent_at < self._applied_at:
                # It may be older than an answer that was applied while it was under way.
                self.tat = max(self.tat, latest) if self.tat < math.inf else latest
            else:
                own = self.tat + counted * self._interval
                self.tat = min(max(own, earliest), latest)
        if self._per_day:
            self.tokens_used = answer.tokens_used
            self.day_ends_at = received_at + answer.tokens_reset_seconds
            self.fresh_until = min(fresh_until, self.day_ends_at)
            self._tokens_text_until = -math.inf
        self._applied_at = max(self._applied_at, received_at)

    def assume_counted(self, count: int) -> None:
        """Assume that Redis has counted so many unreported requests, without an answer."""
        self.unreported -= count
        self.tat += count * self._interval

    def _write_tokens(self, now: float) -> None:
        left = self.day_ends_at - now
        remaining = max(0, self._per_day - self.tokens_used)
        self._headers["x-ratelimit-limit-tokens"] = str(self._per_day)
        self._headers["x-ratelimit-remaining-tokens"] = str(remaining)
        self._headers["x-ratelimit-reset-tokens"] = format_duration(left)
        # Above a minute the text changes with the full seconds, and below with each millisecond.
        if MINUTE_SECONDS < left <= DAY_SECONDS:
            self._tokens_text_until = self.day_ends_at - (math.ceil(left) - 1)
