"""How many cases of a property a run looks at: fewer in `make unit`, run after each change."""

from __future__ import annotations

import hypothesis

# What a property runs with when its profile sets nothing.
USUAL = 100


def share(count: int) -> int:
    """Return how many of so many cases the profile of this run wants, at least one."""
    return max(1, count * hypothesis.settings().max_examples // USUAL)
