"""Processes that count hits, in a time of the test's own.

`Server` does the same as admit.lua and hits.lua; test_deferred_limiter.py runs those themselves.
"""

from __future__ import annotations

import heapq
import itertools
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from access.limits.hit_state import HitState
from access.limits.verdict import Verdict
from access.principal import Limits
from tests.support.examples import share

PERIOD = 0.1
FRESH = 0.3
DAY = 86_400.0
ROUNDING = 1e-6


class World:
    """Do what is planned, in the order of time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._plans, (when, next(self._numbers), act))

    def run(self, until: float) -> None:
        while self._plans and self._plans[0][0] <= until:
            self.now, _, act = heapq.heappop(self._plans)
            act()


@dataclass
class Server:
    world: World
    limit: int
    tat: float = 0.0

    def admit(self) -> Verdict:
        tat = max(self.tat, self.world.now)
        early = tat + 60 / self.limit - self.world.now - 60
        if early > ROUNDING:
            return self._answer("requests_per_minute", early)
        self.tat = tat + 60 / self.limit
        return self._answer(None, 0)

    def report(self, count: int) -> Verdict:
        self.tat = max(self.tat, self.world.now) + count * 60 / self.limit
        return self._answer(None, 0)

    def _answer(self, refused_by: str | None, wait: float) -> Verdict:
        return Verdict(refused_by, wait, 0, max(0.0, self.tat - self.world.now), 0, DAY)


@dataclass
class Process:
    """One process; each of its calls of the server takes up to `longest_trip` seconds."""

    world: World
    server: Server
    chance: random.Random
    longest_trip: float
    limits: Limits
    passed: list[float] = field(default_factory=list)
    by_itself: list[float] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self.state = HitState(uuid.uuid4(), self.limits)
        self.world.at(self.world.now + self.chance.random() * PERIOD, self.sync)

    def hit(self) -> None:
        now = self.world.now
        if self.state.is_fresh(self.limits, now):
            if self.state.take(now) is not None:
                self.passed.append(now)
                self.by_itself.append(now)
            else:
                assert self.state.verdict(now).wait_seconds > 0
            return
        self.calls += 1
        self.state.unreported += 1
        self._call(self.server.admit, self._answered)

    def sync(self) -> None:
        count, self.state.queued = self.state.queued, 0

        def reported(answer: Verdict, sent_at: float, _: float) -> None:
            self.state.unreported -= count
            self._apply_remote(answer, count, sent_at)
            self.world.at(self.world.now + PERIOD, self.sync)

        self._call(lambda: self.server.report(count), reported)

    def _answered(self, answer: Verdict, sent_at: float, decided_at: float) -> None:
        self.state.unreported -= 1
        self._apply_remote(answer, int(answer.refused_by is None), sent_at)
        if answer.refused_by is None:
            self.passed.append(decided_at)

    def _apply_remote(self, answer: Verdict, counted: int, sent_at: float) -> None:
        now = self.world.now
        self.state.apply_remote(
            answer, counted=counted, sent_at=sent_at, received_at=now, fresh_until=now + FRESH
        )

    def _call(
        self, work: Callable[[], Verdict], answered: Callable[[Verdict, float, float], None]
    ) -> None:
        sent_at = self.world.now
        decided_at = sent_at + self.chance.random() * self.longest_trip / 2
        received_at = decided_at + self.chance.random() * self.longest_trip / 2

        def decide() -> None:
            answer = work()
            self.world.at(received_at, lambda: answered(answer, sent_at, decided_at))

        self.world.at(decided_at, decide)


@dataclass
class Run:
    processes: list[Process]
    misses: list[float]
    tried: list[float]
    limit: int

    @property
    def passed(self) -> list[float]:
        return sorted([*self.misses, *(t for process in self.processes for t in process.passed)])

    @property
    def excess(self) -> float:
        """Return by how many requests some window of time holds more than GCRA lets pass."""
        return most_ahead(self.passed, self.limit) - self.limit

    def bound(self, longest_trip: float) -> float:
        """Return the documented bound, with the rates that there really were."""
        window = 2 * (PERIOD + longest_trip)
        bursts = [most_within(process.by_itself, window) for process in self.processes]
        if self.misses:
            bursts.append(most_within(self.misses, window))
        unseen = sum(bursts) - min(bursts)
        return unseen + longest_trip * self.limit / 60 + ROUNDING


def most_ahead(times: list[float], limit: int) -> float:
    """Return the most that a bucket filled by these, and leaking at the limit, ever holds."""
    level = most = 0.0
    last = 0.0
    for now in times:
        level = max(0.0, level - (now - last) * limit / 60) + 1
        most = max(most, level)
        last = now
    return most


def most_within(times: list[float], window: float) -> int:
    return max(
        (sum(t <= u <= t + window for u in times[i:]) for i, t in enumerate(times)), default=0
    )


def simulate(
    seed: int, *, processes: int, limit: int, longest_trip: float, miss_share: float = 0.0
) -> Run:
    """Run bursts of hits, and rests, for about three minutes."""
    chance = random.Random(seed)
    world = World()
    server = Server(world, limit)
    all_processes = [
        Process(world, server, chance, longest_trip, Limits(requests_per_minute=limit))
        for _ in range(processes)
    ]
    misses: list[float] = []
    tried: list[float] = []

    def miss() -> None:
        if server.admit().refused_by is None:
            misses.append(world.now)

    when = world.now
    end = when + 180
    while when < end:
        for _ in range(chance.choice([1, 3, 20, 100])):
            is_miss = chance.random() < miss_share
            world.at(when, miss if is_miss else chance.choice(all_processes).hit)
            tried.append(when)
            when += chance.expovariate(chance.choice([0.5, 2.0, 20.0, 500.0]) * limit / 10)
            if when > end:
                break
        when += chance.choice([0, 0.05, 0.5, 20]) * chance.random()
    world.run(end + 5)
    return Run(all_processes, misses, tried, limit)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("limit", [1, 7, 60, 300])
def test_no_window_of_time_holds_more_than_the_limit_and_the_documented_excess(processes, limit):
    excesses = []
    for seed in range(share(15)):
        for longest_trip in (0.0, 0.02):
            run = simulate(
                seed,
                processes=processes,
                limit=limit,
                longest_trip=longest_trip,
                miss_share=0.2 * (seed % 2),
            )
            assert run.excess <= run.bound(longest_trip), f"seed {seed}, trip {longest_trip}"
            excesses.append(run.excess)
    # The runs do reach the limit; else this would say nothing.
    assert max(excesses) > -1


def test_more_than_the_limit_does_pass_when_reports_are_late():
    """The bound is not zero; a test that never saw an excess would prove nothing."""
    excesses = [
        simulate(seed, processes=4, limit=300, longest_trip=0.02).excess for seed in range(15)
    ]
    assert max(excesses) > 5


@pytest.mark.parametrize("limit", [1, 7, 60, 300])
def test_one_process_lets_pass_what_gcra_does(limit):
    for seed in range(10):
        run = simulate(seed, processes=1, limit=limit, longest_trip=0.0)
        expected, tat = 0, 0.0
        for now in run.tried:
            tat = max(tat, now)
            if tat + 60 / limit - now - 60 <= ROUNDING:
                tat += 60 / limit
                expected += 1
        # Hits are counted when they are reported: a rested key's may count a period later.
        late = PERIOD * limit / 60 + 1
        assert expected - late <= len(run.passed) <= expected + ROUNDING, f"seed {seed}"


def test_a_process_makes_few_calls():
    run = simulate(3, processes=2, limit=300, longest_trip=0.02)
    assert sum(process.calls for process in run.processes) < len(run.tried) / 5


def test_an_answer_that_was_overtaken_lowers_no_count():
    state = HitState(uuid.uuid4(), Limits(requests_per_minute=60))
    newer = Verdict(None, 0, 0, 30.0, 0, DAY)
    older = Verdict(None, 0, 0, 10.0, 0, DAY)
    state.apply_remote(newer, counted=0, sent_at=100.0, received_at=100.1, fresh_until=101)
    state.apply_remote(older, counted=0, sent_at=100.05, received_at=100.2, fresh_until=101)
    assert state.verdict(100.2).requests_reset_seconds == pytest.approx(29.9)
    # One that was sent later does: the clock was set back, or Redis lost its data.
    state.apply_remote(older, counted=0, sent_at=100.3, received_at=100.4, fresh_until=101)
    assert state.verdict(100.4).requests_reset_seconds == pytest.approx(10, abs=0.1)


def test_the_state_of_a_day_that_is_over_is_not_fresh():
    limits = Limits(tokens_per_day=5)
    state = HitState(uuid.uuid4(), limits)
    answer = Verdict(None, 0, 0, 0, 5, 0.5)
    state.apply_remote(answer, counted=0, sent_at=10.0, received_at=10.0, fresh_until=20.0)
    assert state.is_fresh(limits, 10.4)
    assert state.take(10.4) is None
    assert not state.is_fresh(limits, 10.6)


def test_the_time_to_midnight_is_exact_to_the_second():
    state = HitState(uuid.uuid4(), Limits(tokens_per_day=5))
    answer = Verdict(None, 0, 0, 0, 0, 120.5)
    state.apply_remote(answer, counted=0, sent_at=0.0, received_at=0.0, fresh_until=200.0)
    for now in (0.0, 0.4, 0.6, 1.4, 1.6, 59.0, 60.4, 61.0, 100.25):
        expected = state.verdict(now).headers(state.limits)
        assert state.take(now) == expected, now
