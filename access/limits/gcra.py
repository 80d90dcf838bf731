"""The arithmetic of GCRA, the rate limiter of a key (ITU-T I.371), without a clock or state.

A key's only state is its theoretical arrival time `tat`: the time at which the full allowance of a
minute is there again. Each request moves it by the emission interval, and conforms if it then lies
no more than a minute ahead. rate.lua and admit.lua do the same in Redis, in microseconds.
"""

from __future__ import annotations

from access.limits.verdict import MINUTE_SECONDS

# Forgives the rounding of emission intervals that are no whole number of microseconds.
ROUNDING_SECONDS = 1e-6


def emission_interval(requests_per_minute: int) -> float:
    """Return the seconds between requests at exactly the limit; 0 without a limit."""
    return MINUTE_SECONDS / requests_per_minute if requests_per_minute else 0.0


def wait_seconds(ahead: float, interval: float) -> float:
    """Return how long the next request must wait; 0 if it conforms.

    `ahead` is how far the theoretical arrival time lies in the future.
    """
    early = ahead + interval - MINUTE_SECONDS
    return early if interval and early > ROUNDING_SECONDS else 0.0


def remaining(ahead: float, interval: float) -> int:
    """Return how many requests conform at once; 0 without a limit."""
    left = MINUTE_SECONDS + ROUNDING_SECONDS - ahead
    return max(0, int(left / interval)) if interval else 0
