"""A limiter's decision, and its headers for clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from access.principal import Limits

MINUTE_SECONDS = 60
DAY_SECONDS = 86_400
# The end of a running request cannot be predicted; this is a reasonable time to retry.
CONCURRENCY_WAIT_SECONDS = 1.0


class Verdict(NamedTuple):
    """A limiter's answer about one request.

    `refused_by` is one of Limits' fields or None. `requests_reset_seconds` is the time until the
    full allowance is there again, `wait_seconds` that until this request would pass.
    """

    refused_by: str | None
    wait_seconds: float
    requests_remaining: int
    requests_reset_seconds: float
    tokens_used: int
    tokens_reset_seconds: float

    def headers(self, applied: Limits) -> dict[str, str]:
        """Return OpenAI's `x-ratelimit-*` headers for the limits that were applied."""
        headers = {}
        if applied.requests_per_minute:
            headers["x-ratelimit-limit-requests"] = str(applied.requests_per_minute)
            headers["x-ratelimit-remaining-requests"] = str(self.requests_remaining)
            headers["x-ratelimit-reset-requests"] = format_duration(self.requests_reset_seconds)
        if applied.tokens_per_day:
            remaining = max(0, applied.tokens_per_day - self.tokens_used)
            headers["x-ratelimit-limit-tokens"] = str(applied.tokens_per_day)
            headers["x-ratelimit-remaining-tokens"] = str(remaining)
            headers["x-ratelimit-reset-tokens"] = format_duration(self.tokens_reset_seconds)
        return headers


def format_duration(seconds: float) -> str:
    """Return a time span as OpenAI writes it: `12ms`, `1s`, `8.64s`, `6m0s`, `23h59m59s`."""
    milliseconds = max(0, round(seconds * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    if milliseconds >= MINUTE_SECONDS * 1000:
        # Above a minute a fraction of a second is of no use.
        minutes, full_seconds = divmod(-(-milliseconds // 1000), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}h{minutes}m{full_seconds}s" if hours else f"{minutes}m{full_seconds}s"
    return f"{milliseconds / 1000:g}s"
