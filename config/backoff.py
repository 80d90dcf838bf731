"""Exponential backoff with jitter (AWS Architecture Blog, "Exponential Backoff And Jitter")."""

import random

# A float's exponent ends at 1023, and no pause grows for so long.
MAX_DOUBLINGS = 60


def full_jitter_seconds(attempt: int, *, base_seconds: float, max_seconds: float) -> float:
    """Return the pause after a failed attempt, the first being 1: anything up to the longest."""
    return random.uniform(0, _longest(attempt, base_seconds, max_seconds))  # noqa: S311


def equal_jitter_seconds(attempt: int, *, base_seconds: float, max_seconds: float) -> float:
    """Return the pause after a failed attempt, the first being 1: at least half the longest."""
    longest = _longest(attempt, base_seconds, max_seconds)
    return random.uniform(longest / 2, longest)  # noqa: S311


def _longest(attempt: int, base_seconds: float, max_seconds: float) -> float:
    growth = 2.0 ** min(attempt - 1, MAX_DOUBLINGS)
    return min(base_seconds * growth, max_seconds)
