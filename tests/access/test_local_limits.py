from __future__ import annotations

import gc
import uuid

import pytest

from access.limits.local import LocalLimiter
from access.principal import Limits

KEY = uuid.uuid4()
NOON = 20_000 * 86_400 + 43_200


class Clock:
    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


class Holder:
    pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock) -> LocalLimiter:
    return LocalLimiter(max_keys=5, clock=clock)


def admitted(limiter, limits, *, key=KEY, holder=None):
    return limiter.admit(key_id=key, limits=limits, holder=holder or Holder())


@pytest.mark.parametrize("allowed", [1, 3, 7, 1000, 10_000_000])
def test_a_full_minute_s_allowance_passes_at_once_then_one_each_emission_interval(
    limiter, clock, allowed
):
    limits = Limits(requests_per_minute=allowed)
    if allowed > 1000:
        assert admitted(limiter, limits).requests_remaining == allowed - 1
        return
    remaining = [admitted(limiter, limits).requests_remaining for _ in range(allowed)]
    assert remaining == list(range(allowed - 1, -1, -1))
    verdict = admitted(limiter, limits)
    assert verdict.refused_by == "requests_per_minute"
    assert verdict.wait_seconds == pytest.approx(60 / allowed, abs=0.001)
    clock.now += 60 / allowed + 0.001
    assert admitted(limiter, limits).refused_by is None
    assert admitted(limiter, limits).refused_by == "requests_per_minute"
    clock.now += 61
    assert admitted(limiter, limits).requests_remaining == allowed - 1


def test_the_day_s_tokens_are_reset_at_midnight(limiter, clock):
    limits = Limits(tokens_per_day=10)
    assert admitted(limiter, limits).tokens_reset_seconds == 43_200
    limiter.finish(key_id=KEY, holder=Holder(), tokens=10)
    verdict = admitted(limiter, limits)
    assert (verdict.refused_by, verdict.wait_seconds) == ("tokens_per_day", 43_200)
    clock.now += 43_200
    assert admitted(limiter, limits).refused_by is None


def test_a_slot_is_released_once(limiter):
    limits = Limits(max_concurrent=2)
    first, second = Holder(), Holder()
    admitted(limiter, limits, holder=first)
    admitted(limiter, limits, holder=second)
    assert admitted(limiter, limits).refused_by == "max_concurrent"
    limiter.finish(key_id=KEY, holder=first, tokens=0)
    limiter.finish(key_id=KEY, holder=first, tokens=0)
    third = Holder()
    assert admitted(limiter, limits, holder=third).refused_by is None
    assert admitted(limiter, limits).refused_by == "max_concurrent"


def test_a_holder_that_is_collected_holds_no_slot(limiter):
    limits = Limits(max_concurrent=1)
    holder = Holder()
    admitted(limiter, limits, holder=holder)
    assert admitted(limiter, limits).refused_by == "max_concurrent"
    del holder
    gc.collect()
    assert admitted(limiter, limits).refused_by is None


def test_refused_requests_are_not_counted(limiter, clock):
    limits = Limits(requests_per_minute=60, max_concurrent=1)
    holder = Holder()
    admitted(limiter, limits, holder=holder)
    for _ in range(100):
        assert admitted(limiter, limits).refused_by == "max_concurrent"
    limiter.finish(key_id=KEY, holder=holder, tokens=0)
    assert admitted(limiter, limits).requests_remaining == 58


def test_it_remembers_a_bounded_number_of_keys(limiter):
    for _ in range(100):
        admitted(limiter, Limits(requests_per_minute=5), key=uuid.uuid4())
    assert len(limiter) == 5


def test_a_clock_that_was_set_back_locks_no_key_out_for_long(limiter, clock):
    limits = Limits(requests_per_minute=60)
    admitted(limiter, limits)
    clock.now -= 1e6
    assert admitted(limiter, limits).wait_seconds <= 1
