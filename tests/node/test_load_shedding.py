"""When a process refuses what it could answer only late: the figures, and a simulated node."""

from __future__ import annotations

import math
import random
import time
from dataclasses import replace

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.request_setup import current_setup, mark_dispatched
from node.load_shedding import (
    CALM_TICKS,
    LATE_TICKS,
    MAX_DELAYS,
    MIN_LIMIT,
    NO_LIMIT,
    OVERDUE,
    SLACK,
    Interval,
    LimitState,
    LoadShedder,
    SetupTimer,
    busy_seconds,
    next_state,
)
from node.request_bodies import TimedInput

TARGET_SECONDS = 0.2
LATE = Interval(0.1, 1.0, [1.0] * 60, age=0.0, in_setup=0, admitted=60, refused=0, hits=0)
ticks = st.builds(
    Interval,
    st.floats(0.05, 10),
    st.floats(0, 1.5),
    st.lists(st.floats(0, 60), max_size=50),
    st.floats(0, 60),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
)


def make_late(shedder: LoadShedder, *, count: int = 60, busy_share: float = 1.0) -> None:
    """Run a tick with so many requests that took a second in setup."""
    for _ in range(count):
        shedder.begin(0.0)
        shedder.end(0.0, 1.0)
    shedder.tick(1.0, seconds=0.1, busy_share=busy_share)


@given(st.lists(ticks, max_size=40))
def test_bounds_are_always_such_that_work_goes_on(seen: list[Interval]) -> None:
    limit_state = LimitState()
    for tick in seen:
        limit_state = next_state(limit_state, tick, TARGET_SECONDS)
        assert limit_state.limit >= MIN_LIMIT


def test_the_limit_is_what_gets_through_in_the_target_time() -> None:
    limit_state = LimitState()
    for _ in range(LATE_TICKS):
        limit_state = next_state(limit_state, LATE, TARGET_SECONDS)

    assert limit_state.limit == pytest.approx(600 * TARGET_SECONDS)


def test_a_queue_that_will_be_late_counts_as_late() -> None:
    """The requests begun last have not waited yet, but will."""
    limit_state = LimitState()
    for _ in range(LATE_TICKS):
        limit_state = next_state(
            limit_state, replace(LATE, delays=[0.01] * 60, in_setup=600), TARGET_SECONDS
        )

    assert limit_state.limit == pytest.approx(600 * TARGET_SECONDS)


def test_the_header_has_how_many_requests_to_send_and_to_queue() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    for _ in range(LATE_TICKS):
        make_late(shedder)
    limit = round(shedder.limit_state.limit)
    shedder.begin(0.0)
    # One that computes, and thirty that wait for their model.
    shedder.in_flight = lambda: 31
    assert shedder.headers == [("x-headrace-limit", f"{30 + limit} {limit // 4}")]

    # Another process's requests are not in that.
    shedder.is_alone = lambda: False
    assert shedder.headers == []


def test_a_burst_is_no_overload() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    for _ in range(LATE_TICKS - 1):
        make_late(shedder)
    shedder.tick(1.0, seconds=0.1, busy_share=0.2)
    make_late(shedder)

    assert shedder.limit_state.limit == NO_LIMIT


def test_some_dozens_at_once_are_no_overload() -> None:
    """Closed loops of clients that wait for their answers are late, and no more than that."""
    limit_state = LimitState()
    for _ in range(100):
        limit_state = next_state(
            limit_state, replace(LATE, delays=[0.5] * 30, in_setup=48), TARGET_SECONDS
        )

    assert not limit_state.is_on


def test_a_process_that_waits_for_others_is_not_overloaded() -> None:
    """A slow database makes requests late too; to refuse some would not make it faster."""
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    for _ in range(100):
        make_late(shedder, busy_share=0.5)

    assert shedder.limit_state.limit == NO_LIMIT


def test_what_is_over_the_limit_is_refused_until_there_is_room() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    for _ in range(LATE_TICKS):
        make_late(shedder)
    begun: list[SetupTimer] = []
    while not shedder.is_full() and len(begun) < MAX_DELAYS:
        begun.append(shedder.begin(0.0))

    assert len(begun) == math.ceil(shedder.limit_state.limit * SLACK)
    begun[0].end()
    begun[0].end()
    assert shedder.in_setup == len(begun) - 1
    assert not shedder.is_full()


def test_a_flood_is_refused_and_who_has_less_than_an_even_share_is_not() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    shedder.limit_state = LimitState(limit=20)
    while not shedder.is_full("flood"):
        shedder.begin(0.0, "flood")

    assert shedder.in_setup == 20 * SLACK
    assert shedder.is_full(None)
    begun = []
    while not shedder.is_full("other"):
        begun.append(shedder.begin(0.0, "other"))
    assert len(begun) == 20 / 2
    assert not shedder.is_full("third")
    for timer in begun:
        timer.end()
    assert not shedder.is_full("other")
    assert shedder.is_full("flood")


def test_callers_that_are_not_known_share_one_share() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    shedder.limit_state = LimitState(limit=20)
    while not shedder.is_full():
        shedder.begin(0.0)

    assert shedder.in_setup == 20 * SLACK
    assert not shedder.is_full("known")


def test_a_calm_process_forgets_its_limit() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    for _ in range(LATE_TICKS):
        make_late(shedder)
    assert shedder.headers
    for _ in range(CALM_TICKS):
        shedder.tick(1.0, seconds=0.1, busy_share=0.4)

    assert shedder.limit_state.limit == NO_LIMIT
    assert shedder.headers == []


def test_a_process_near_its_limit_is_not_calm() -> None:
    """A balancer that obeys the limit leaves it rests, and has more to send."""
    limit_state = LimitState(limit=60)
    for _ in range(CALM_TICKS):
        limit_state = next_state(
            limit_state,
            replace(LATE, busy_share=0.5, in_setup=int(limit_state.limit) - 1),
            TARGET_SECONDS,
        )

    assert limit_state.is_on
    assert limit_state.limit > 60


def test_where_many_answers_are_hits_there_is_no_header() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    for _ in range(LATE_TICKS):
        make_late(shedder)
    assert shedder.headers
    for _ in range(20):
        shedder.hit()
    make_late(shedder)

    assert shedder.limit_state.is_on
    assert shedder.headers == []


def test_a_request_is_through_when_its_chain_begins() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    token = current_setup.set(shedder.begin(0.0))
    try:
        mark_dispatched()
    finally:
        current_setup.reset(token)
    mark_dispatched()

    assert shedder.in_setup == 0


class SlowClient:
    """A client of whose body a byte comes after `seconds`; `in_setup` is read while it does not."""

    def __init__(self, shedder: LoadShedder, seconds: float) -> None:
        self._shedder = shedder
        self._seconds = seconds
        self.in_setup: list[int] = []

    def read(self, *size: int) -> bytes:
        self.in_setup.append(self._shedder.in_setup)
        time.sleep(self._seconds)
        return b"x"


def test_a_slow_client_is_not_taken_for_a_late_node() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    slow = SlowClient(shedder, TARGET_SECONDS * OVERDUE * 1.5)
    timer = shedder.begin(time.monotonic())
    token = current_setup.set(timer)
    try:
        assert TimedInput(slow).read() == b"x"
    finally:
        current_setup.reset(token)

    assert slow.in_setup == [0]
    assert shedder.in_setup == 1
    # Of a busy process, a request that was so late would be the sign of an overload.
    for _ in range(LATE_TICKS):
        shedder.tick(time.monotonic(), seconds=0.1, busy_share=1.0)
    assert not shedder.limit_state.is_on
    timer.end()
    assert shedder.in_setup == 0


def test_a_request_that_ends_while_it_waits_for_its_client_counts_once() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    timer = shedder.begin(0.0)
    timer.pause()
    timer.pause()
    timer.end()
    timer.resume()

    assert shedder.in_setup == 0


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
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    cost, step = 1 / 500, 0.005
    running: list[tuple[float, float]] = []
    delays: list[float] = []
    beginnings: list[float] = []
    seconds = 20
    for number in range(int(seconds / step)):
        now = number * step
        for _ in range(sum(rng.random() < factor * step / cost / 100 for _ in range(100))):
            if not shedder.is_full():
                shedder.begin(now)
                running.append((now, rng.expovariate(1 / cost)))
        was_busy = bool(running)
        left = step
        while left > 1e-9 and running:
            share = min([left / len(running), *(work for _, work in running)])
            left -= share * len(running)
            done = [began for began, work in running if work <= share + 1e-12]
            running = [(began, work - share) for began, work in running if work > share + 1e-12]
            for began in done:
                shedder.end(began, now)
                delays.append(now - began)
                beginnings.append(began)
        if number % 20 == 19:
            shedder.tick(now, seconds=0.1, busy_share=1.0 if was_busy else 0.0)

    assert len(delays) > 0.93 * seconds / cost
    # Those of the first moment, before anything is refused, fare worst.
    seen = zip(beginnings, delays, strict=True)
    later = sorted(delay for began, delay in seen if began > seconds / 2)
    assert later[int(len(later) * 0.99)] < 6 * TARGET_SECONDS


def test_without_ticks_the_delays_are_bounded() -> None:
    shedder = LoadShedder(target_seconds=TARGET_SECONDS)
    for _ in range(MAX_DELAYS + 10):
        shedder.begin(0.0).end()

    assert shedder.delay_count == MAX_DELAYS
