"""When a process refuses what it could answer only late: the figures, and a simulated node."""

from __future__ import annotations

import random
import time

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.overload import (
    CALM_TICKS,
    LATE_TICKS,
    MIN_LIMIT,
    MIN_PASSING,
    NO_LIMIT,
    Beginning,
    Overload,
    Tick,
    beginning,
    busy_seconds,
    has_begun,
    next_limit,
    next_passing,
)

TARGET_SECONDS = 0.2
LATE = Tick([0.5] * 60, 0.0, seconds=0.1, busy_share=1.0, admitted=60)
ticks = st.builds(
    Tick,
    st.lists(st.floats(0, 60), max_size=50),
    st.floats(0, 60),
    st.floats(0.05, 10),
    st.floats(0, 1.5),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
)


def make_late(overload: Overload, *, count: int = 60, busy_share: float = 1.0) -> None:
    """Have one tick see so many requests that took half a second to be begun."""
    for _ in range(count):
        overload.begin(0.0)
        overload.end(0.0, 0.5)
    overload.tick(0.5, seconds=0.1, busy_share=busy_share)


@given(st.one_of(st.floats(MIN_LIMIT, 1e6), st.just(NO_LIMIT)), st.floats(0.01, 1), ticks)
def test_a_limit_is_always_one_that_lets_work_go_on(
    limit: float, passing: float, tick: Tick
) -> None:
    assert next_limit(limit, tick, TARGET_SECONDS) >= MIN_LIMIT
    assert MIN_PASSING <= next_passing(passing, tick) <= 1


def test_the_limit_is_what_gets_through_in_the_target_time() -> None:
    assert next_limit(NO_LIMIT, LATE, TARGET_SECONDS) == pytest.approx(600 * TARGET_SECONDS)


def test_a_burst_is_no_overload() -> None:
    overload = Overload(target_seconds=TARGET_SECONDS)
    for _ in range(LATE_TICKS - 1):
        make_late(overload)
    overload.tick(0.5, seconds=0.1, busy_share=0.2)
    make_late(overload)

    assert overload.limit == NO_LIMIT


def test_a_process_that_waits_for_others_is_not_overloaded() -> None:
    """A slow database makes requests late too; to refuse some would not make it faster."""
    overload = Overload(target_seconds=TARGET_SECONDS)
    for _ in range(100):
        make_late(overload, busy_share=0.5)

    assert overload.limit == NO_LIMIT


def test_what_is_over_the_limit_is_refused_until_there_is_room() -> None:
    overload = Overload(target_seconds=TARGET_SECONDS)
    for _ in range(LATE_TICKS):
        make_late(overload)
    begun: list[Beginning] = []
    while not overload.is_full():
        begun.append(overload.begin(0.0))

    assert len(begun) == 120
    begun[0].end()
    begun[0].end()
    assert overload.begun == 119
    assert not overload.is_full()


def test_a_calm_process_forgets_its_limit() -> None:
    overload = Overload(target_seconds=TARGET_SECONDS)
    for _ in range(LATE_TICKS):
        make_late(overload)
    assert overload.headers == [("x-headrace-refuse", "0")]
    for _ in range(CALM_TICKS):
        overload.tick(0.5, seconds=0.1, busy_share=0.4)

    assert overload.limit == NO_LIMIT
    assert overload.headers == []


def test_where_many_answers_are_hits_the_balancer_refuses_none() -> None:
    tick = Tick([], 0.0, 0.1, 1.0, admitted=50, refused=150, hits=100)
    assert next_passing(1.0, tick._replace(hits=0)) < 0.9
    assert next_passing(1.0, tick) == 1.0


def test_a_request_is_through_when_its_chain_begins() -> None:
    overload = Overload(target_seconds=TARGET_SECONDS)
    token = beginning.set(overload.begin(0.0))
    try:
        has_begun()
    finally:
        beginning.reset(token)
    has_begun()

    assert overload.begun == 0


def test_a_thread_that_works_is_busy_and_one_that_sleeps_is_not() -> None:
    at, busy = time.monotonic(), busy_seconds()
    while time.monotonic() < at + 0.2:
        sum(range(1000))
    worked = busy_seconds() - busy
    assert worked >= 0.15
    gevent.sleep(0.2)
    assert busy_seconds() - busy - worked < 0.1


@pytest.mark.parametrize("factor", [1.5, 3.0, 10.0])
def test_more_load_is_no_less_work_done(factor: float) -> None:
    """A node that shares its processor fairly among what it has begun, in virtual time."""
    rng = random.Random(1)
    overload = Overload(target_seconds=TARGET_SECONDS)
    cost, step = 1 / 500, 0.005
    running: list[tuple[float, float]] = []
    delays: list[float] = []
    ends: list[float] = []
    seconds = 20
    for number in range(int(seconds / step)):
        now = number * step
        for _ in range(sum(rng.random() < factor * step / cost / 100 for _ in range(100))):
            if not overload.is_full():
                overload.begin(now)
                running.append((now, rng.expovariate(1 / cost)))
        was_busy = bool(running)
        left = step
        while left > 1e-9 and running:
            share = min([left / len(running), *(work for _, work in running)])
            left -= share * len(running)
            done = [began for began, work in running if work <= share + 1e-12]
            running = [(began, work - share) for began, work in running if work > share + 1e-12]
            for began in done:
                overload.end(began, now)
                delays.append(now - began)
                ends.append(now)
        if number % 20 == 19:
            overload.tick(now, seconds=0.1, busy_share=1.0 if was_busy else 0.0)

    assert len(delays) > 0.93 * seconds / cost
    # The first moment, before anything is refused, is the worst.
    later = sorted(delay for ended, delay in zip(ends, delays, strict=True) if ended > seconds / 2)
    assert later[int(len(later) * 0.99)] < 6 * TARGET_SECONDS
