from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.limits import gcra
from access.limits.verdict import MINUTE_SECONDS

LIMITS = st.integers(1, 100_000)


@given(LIMITS)
def test_a_rested_key_has_its_full_allowance_at_once(limit: int) -> None:
    interval = gcra.emission_interval(limit)
    assert gcra.remaining(0.0, interval) == limit
    assert gcra.wait_seconds((limit - 1) * interval, interval) == 0
    assert gcra.wait_seconds(limit * interval, interval) == pytest.approx(interval, abs=1e-6)


@given(LIMITS, st.floats(0, 10 * MINUTE_SECONDS))
def test_a_request_conforms_as_long_as_some_remain(limit: int, ahead: float) -> None:
    interval = gcra.emission_interval(limit)
    conforms = gcra.wait_seconds(ahead, interval) == 0
    # Both at the border itself, where rounding decides.
    if abs(ahead + interval - MINUTE_SECONDS) > 2 * gcra.ROUNDING_SECONDS:
        assert conforms == (gcra.remaining(ahead, interval) > 0)


@given(LIMITS, st.floats(0, 10 * MINUTE_SECONDS))
def test_a_request_conforms_after_its_wait(limit: int, ahead: float) -> None:
    interval = gcra.emission_interval(limit)
    wait = gcra.wait_seconds(ahead, interval)
    assert gcra.wait_seconds(max(0.0, ahead - wait), interval) == 0


def test_without_a_limit_every_request_conforms() -> None:
    interval = gcra.emission_interval(0)
    assert (interval, gcra.remaining(30.0, interval)) == (0, 0)
    assert gcra.wait_seconds(1e6, interval) == 0
