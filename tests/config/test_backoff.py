"""Pauses before another attempt."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st

from config.backoff import equal_jitter_seconds, full_jitter_seconds

ATTEMPTS = st.integers(1, 10_000)


@hypothesis.given(attempt=ATTEMPTS)
def test_a_pause_is_never_longer_than_the_longest(attempt: int) -> None:
    longest = min(0.5 * 2 ** min(attempt - 1, 40), 60.0)
    assert 0 <= full_jitter_seconds(attempt, base_seconds=0.5, max_seconds=60) <= longest
    assert longest / 2 <= equal_jitter_seconds(attempt, base_seconds=0.5, max_seconds=60) <= longest


def test_pauses_differ() -> None:
    for jitter in (full_jitter_seconds, equal_jitter_seconds):
        assert len({jitter(3, base_seconds=1, max_seconds=60) for _ in range(20)}) > 1


def test_no_pause_without_a_base() -> None:
    assert equal_jitter_seconds(5, base_seconds=0, max_seconds=60) == 0
