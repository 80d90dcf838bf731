"""The loop: what it does with decisions, with failures, and with another loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from fleet.autoscale import history
from fleet.autoscale.decision import Kind
from fleet.autoscale.errors import ActuatorError
from fleet.autoscale.lease import KEY, Lease
from fleet.autoscale.loop import Loop
from fleet.autoscale.policies import Policies, Policy, Rule
from fleet.autoscale.sources import Measured
from scaling import redis_client
from tests.support.waiting import eventually

POLICY = Policy(
    minimum=1,
    maximum=4,
    cooldown_up_seconds=0,
    cooldown_down_seconds=0,
    step_limit=4,
    stale_seconds=30,
    rules=(
        Rule(measure="cpu_percent", threshold=60, for_seconds=20, grows=True, count=1),
        Rule(measure="cpu_percent", threshold=10, for_seconds=20, grows=False, count=1),
    ),
)
POLICIES: Policies = {"web": POLICY}


class Fleet:
    """An actuator of a fleet that is only a number, which remembers its targets."""

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.targets: list[int] = []
        self.error = ""
        self.gate = threading.Event()
        self.gate.set()

    def sizes(self) -> Mapping[str, int]:
        if self.error:
            raise ActuatorError(self.error)
        return {"web": self.size}

    def scale(self, targets: Mapping[str, int]) -> None:
        self.targets.append(targets["web"])
        assert self.gate.wait(10)
        self.size = targets["web"]


class Load:
    """A source whose CPU is set by hand."""

    def __init__(self) -> None:
        self.cpu = 90.0
        self.is_broken = False

    def measure(self, sizes: Mapping[str, int]) -> Measured:
        if self.is_broken:
            raise RuntimeError("a plug-in's own mistake")
        return Measured(values={"web": {"cpu_percent": self.cpu}})


class World:
    """A fleet, its load and a clock, with loops on them."""

    def __init__(self) -> None:
        self.now = time.time()
        self.fleet = Fleet()
        self.load = Load()
        self.said: list[str] = []

    def loop(self, *, seconds: float | None = 15.0) -> Loop:
        return Loop(
            policies=POLICIES,
            source=self.load,
            actuator=self.fleet,
            lease=Lease(seconds=seconds) if seconds else None,
            on_progress=self.said.append,
            clock=lambda: self.now,
        )

    def ticks(self, loop: Loop, count: int) -> None:
        for _ in range(count):
            loop.tick()
            assert not self.fleet.gate.is_set() or loop.executor.wait(10)
            self.now += 10


@pytest.fixture
def world() -> Iterator[World]:
    forget()
    yield World()
    forget()


def forget() -> None:
    redis_client.reset()
    keys = [KEY, *(f"headrace:autoscale:{what}:web" for what in ("decisions", "snapshots"))]
    redis_client.run(lambda client: client.delete(*keys))


def failures(step: str) -> float:
    return REGISTRY.get_sample_value("headrace_autoscale_failures_total", {"step": step}) or 0


def test_it_grows_and_shrinks_with_the_load(world: World) -> None:
    loop = world.loop()
    world.ticks(loop, 3)
    assert world.fleet.targets == [2]
    world.load.cpu = 1.0
    world.ticks(loop, 3)
    assert world.fleet.targets == [2, 1]
    assert "web: from 1 to 2: cpu_percent was 90 for 20 s, above 60" in world.said
    value = REGISTRY.get_sample_value("headrace_autoscale_target", {"fleet": "web"})
    assert value == 1


def test_decisions_are_stored_with_their_reasons(world: World) -> None:
    world.ticks(world.loop(), 4)
    found = history.read("web")
    assert [entry.kind for entry in found] == ["keep", "up", "keep"]
    assert found[1].reason == "cpu_percent was 90 for 20 s, above 60"
    assert (found[1].size, found[1].target) == (1, 2)
    assert found[1].values == {"cpu_percent": 90.0}


def test_only_a_thousand_decisions_are_stored(world: World) -> None:
    world.ticks(world.loop(), 3)
    entry = history.read("web")[0]
    for number in range(history.MAX_DECISIONS + 5):
        history.add(replace(entry, at=float(number)))
    found = history.read("web")
    assert len(found) == 1000
    assert (found[0].at, found[-1].at) == (1004.0, 5.0)


def test_rows_of_another_shape_are_passed_over(world: World) -> None:
    world.ticks(world.loop(), 1)
    for row in ("no json", "[]", '{"at": 1}'):
        redis_client.run(
            lambda client, row=row: client.lpush("headrace:autoscale:decisions:web", row)
        )
        redis_client.run(
            lambda client, row=row: client.lpush("headrace:autoscale:snapshots:web", row)
        )
    assert len(history.read("web")) == 1
    assert len(history.read_snapshots("web")) == 1
    redis_client.run(lambda client: client.delete(KEY))
    world.ticks(world.loop(), 2)
    assert world.fleet.targets == [2]


def test_a_new_loop_goes_on_where_the_last_one_ended(world: World) -> None:
    first = world.loop()
    world.ticks(first, 2)
    first.close()
    world.ticks(world.loop(), 1)
    assert world.fleet.targets == [2]


def test_two_loops_never_act_both(world: World) -> None:
    loops = [world.loop() for _ in range(2)]
    barrier = threading.Barrier(2)
    decided: list[list[bool]] = [[], []]

    def race(number: int) -> None:
        for _ in range(50):
            barrier.wait(10)
            decided[number].append(bool(loops[number].tick()))

    threads = [threading.Thread(target=race, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([any(decided[0]), any(decided[1])]) == [False, True]
    assert "lease: another autoscaler holds the lease; waiting for it" in world.said
    assert world.said.count("lease: this autoscaler holds the lease") == 1


def test_the_other_takes_over_when_the_first_ends_or_is_silent(world: World) -> None:
    first, second = world.loop(seconds=1.0), world.loop(seconds=1.0)
    assert first.tick()
    assert not second.tick()
    first.close()
    assert second.tick()
    # The second one is frozen from here.
    eventually(first.tick, seconds=5, what="the first one has the lease")
    assert second.lease
    assert not second.lease.is_held
    assert not second.tick()


def test_measuring_goes_on_while_a_change_takes_its_time(world: World) -> None:
    loop = world.loop()
    world.fleet.gate.clear()
    world.ticks(loop, 8)
    assert world.fleet.targets == [2]
    assert loop.lease
    assert loop.lease.is_held
    world.fleet.gate.set()
    assert loop.executor.wait(10)
    world.ticks(loop, 3)
    assert world.fleet.targets == [2, 3]


def test_it_survives_the_failure_of_each_step(world: World) -> None:
    loop = world.loop()
    before = {step: failures(step) for step in ("count", "measure")}
    world.fleet.error = "the engine is unavailable"
    world.ticks(loop, 2)
    assert world.said.count("count failed: the engine is unavailable") == 1
    world.fleet.error = ""
    world.load.is_broken = True
    world.ticks(loop, 1)
    world.load.is_broken = False
    world.ticks(loop, 3)
    assert world.fleet.targets == [2]
    assert failures("count") == before["count"] + 2
    assert failures("measure") == before["measure"] + 1


def test_a_change_that_failed_is_reported_and_retried(world: World) -> None:
    class Refusing(Fleet):
        def scale(self, targets: Mapping[str, int]) -> None:
            self.targets.append(targets["web"])
            raise ActuatorError("there is no room")

    world.fleet = Refusing(size=0)
    before = failures("act")
    loop = world.loop()
    loop.tick()
    assert loop.executor.wait(10)
    # Being below the minimum needs no window; only the failure makes it wait.
    for _ in range(3):
        loop.tick()
        loop.executor.wait(10)
        world.now += 1
    assert world.fleet.targets == [1]
    world.now += 10
    loop.tick()
    loop.executor.wait(10)
    assert world.fleet.targets == [1, 1]
    assert failures("act") == before + 2
    assert "act: there is no room" in world.said


def test_without_redis_nothing_is_changed(
    world: World, monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    loop = world.loop()
    world.ticks(loop, 2)

    def away(*_: object, **__: object) -> None:
        raise redis_client.RedisUnavailable("it is unavailable", may_have_run=False)

    with monkeypatch.context() as patch:
        patch.setattr(redis_client, "run", away)
        world.ticks(loop, 3)
    assert world.fleet.targets == []
    assert "lease failed: it is unavailable" in world.said


def test_a_dry_run_only_looks(world: World) -> None:
    loop = world.loop(seconds=None)
    for _ in range(3):
        decisions = loop.tick()
        world.now += 10
    assert decisions["web"].kind is Kind.UP
    assert world.fleet.targets == []
    assert history.read("web") == []
    assert redis_client.run(lambda client: client.get(KEY)) is None


def test_it_stops_at_a_stop_request(world: World) -> None:
    loop, stop = world.loop(), threading.Event()
    thread = threading.Thread(target=lambda: loop.run(stop, seconds=60))
    thread.start()
    while not world.said:
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert redis_client.run(lambda client: client.get(KEY)) is None
