from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY

from scaling.loading_cache import LoadingCache
from tests.support.waiting import eventually


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Loads:
    """A load that counts its calls; it can be held, and can fail."""

    def __init__(self, values: dict[str, str | None] | None = None) -> None:
        self.values = values
        self.calls: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None

    def __call__(self, key: str) -> str | None:
        self.calls.append(key)
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return key.upper() if self.values is None else self.values.get(key)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cache_of(loads: Loads, clock: Clock, *, ttl: float = 1.0, entries: int = 10):
    return LoadingCache(load=loads, ttl_seconds=ttl, max_entries=entries, name="test", clock=clock)


def in_threads(count: int, work):
    """Start `work` in so many threads and return the futures once all have begun."""
    begun = threading.Barrier(count + 1)

    def run():
        begun.wait(10)
        return work()

    pool = ThreadPoolExecutor(count)
    futures = [pool.submit(run) for _ in range(count)]
    begun.wait(10)
    pool.shutdown(wait=False)
    return futures


def wait_for(condition) -> None:
    eventually(condition, seconds=5, what="the threads get there", every_seconds=0.005)


def test_a_value_is_loaded_once_within_its_ttl(clock):
    loads = Loads()
    cache = cache_of(loads, clock)
    assert [cache.get("a"), cache.get("a")] == ["A", "A"]
    clock.now = 0.999
    assert cache.get("a") == "A"
    assert loads.calls == ["a"]
    clock.now = 1.0
    assert cache.get("a") == "A"
    assert loads.calls == ["a", "a"]


def test_the_ttl_counts_from_the_start_of_a_load(clock):
    loads = Loads()

    def slow(key: str) -> str | None:
        clock.now += 0.7
        return loads(key)

    cache = LoadingCache(load=slow, ttl_seconds=1.0, max_entries=10, clock=clock)
    cache.get("a")
    clock.now = 1.0
    cache.get("a")
    assert loads.calls == ["a", "a"]


def test_a_ttl_of_zero_remembers_nothing(clock):
    loads = Loads()
    cache = cache_of(loads, clock, ttl=0)
    cache.get("a")
    cache.get("a")
    assert loads.calls == ["a", "a"]


def test_many_callers_of_one_expired_key_cause_one_load(clock):
    loads = Loads()
    cache = cache_of(loads, clock)
    cache.get("a")
    clock.now = 5.0
    loads.gate.clear()
    futures = in_threads(64, lambda: cache.get("a"))
    wait_for(lambda: len(loads.calls) == 2)
    loads.gate.set()
    assert [future.result(10) for future in futures] == ["A"] * 64
    assert loads.calls == ["a", "a"]


def test_a_slow_load_of_one_key_holds_up_no_other(clock):
    loads = Loads()
    cache = cache_of(loads, clock)
    cache.get("b")
    loads.gate.clear()
    (future,) = in_threads(1, lambda: cache.get("a"))
    wait_for(lambda: "a" in loads.calls)
    assert cache.get("b") == "B"
    loads.gate.set()
    assert future.result(10) == "A"


def test_a_failing_load_reaches_all_its_callers_and_is_not_cached(clock):
    loads = Loads()
    loads.error = RuntimeError("database away")
    loads.gate.clear()
    cache = cache_of(loads, clock)
    futures = in_threads(16, lambda: cache.get("a"))
    wait_for(lambda: loads.calls)
    wait_for(lambda: lookups("shared") >= 15)
    loads.gate.set()
    assert {str(future.exception(10)) for future in futures} == {"database away"}
    assert loads.calls == ["a"]
    loads.error = None
    assert cache.get("a") == "A"


def test_the_death_of_the_loading_greenlet_does_not_strand_those_who_wait(clock):
    loads = Loads()
    cache = cache_of(loads, clock)
    loads.error = SystemExit()
    loads.gate.clear()
    (leader,) = in_threads(1, lambda: cache.get("a"))
    wait_for(lambda: loads.calls)
    before = lookups("shared")
    waiters = in_threads(8, lambda: cache.get("a"))
    wait_for(lambda: lookups("shared") == before + 8)
    loads.gate.set()
    assert isinstance(leader.exception(10), SystemExit)
    # Each waiter becomes a leader in turn and meets the same end, but none hangs.
    assert all(isinstance(waiter.exception(10), SystemExit) for waiter in waiters)
    loads.error = None
    assert cache.get("a") == "A"


def test_what_does_not_exist_is_remembered_too(clock):
    loads = Loads({})
    cache = cache_of(loads, clock)
    assert cache.get("a") is None
    assert cache.get("a") is None
    assert loads.calls == ["a"]


def test_a_flood_of_unknown_keys_pushes_out_no_known_one(clock):
    loads = Loads({"good": "yes"})
    cache = cache_of(loads, clock, entries=5)
    cache.get("good")
    for number in range(1000):
        cache.get(f"bad{number}")
    loads.calls.clear()
    assert cache.get("good") == "yes"
    assert loads.calls == []
    assert len(cache) == 6


def test_the_least_recently_used_goes_first(clock):
    loads = Loads()
    cache = cache_of(loads, clock, entries=2)
    for key in ("a", "b", "a", "c"):
        cache.get(key)
    loads.calls.clear()
    cache.get("a")
    cache.get("b")
    assert loads.calls == ["b"]
    assert len(cache) == 2


def test_a_key_that_comes_into_being_leaves_the_shelf_of_unknown_ones(clock):
    loads = Loads({})
    cache = cache_of(loads, clock)
    assert cache.get("a") is None
    loads.values = {"a": "now"}
    clock.now = 2.0
    assert cache.get("a") == "now"
    assert len(cache) == 1
    loads.values = {}
    clock.now = 4.0
    assert cache.get("a") is None
    assert len(cache) == 1


@pytest.mark.parametrize("forget", ["drop", "clear"])
def test_a_load_under_way_when_its_key_is_removed_is_not_cached(clock, forget):
    loads = Loads()
    cache = cache_of(loads, clock)
    loads.gate.clear()
    (early,) = in_threads(1, lambda: cache.get("a"))
    wait_for(lambda: loads.calls)
    cache.drop("a") if forget == "drop" else cache.clear()
    loads.gate.set()
    assert early.result(10) == "A"
    assert len(cache) == 0
    assert cache.get("a") == "A"
    assert loads.calls == ["a", "a"]


def test_hammering_from_many_threads_keeps_the_bound_and_the_values(clock):
    loads = Loads()
    cache = LoadingCache(load=loads, ttl_seconds=0.001, max_entries=20)

    def work():
        for number in range(500):
            key = f"k{number % 50}"
            assert cache.get(key) == key.upper()

    for future in in_threads(8, work):
        future.result(30)
    assert len(cache) <= 20


def test_lookups_are_counted_by_result(clock):
    before = {result: lookups(result) for result in ("hit", "miss", "failed")}
    loads = Loads()
    cache = cache_of(loads, clock)
    cache.get("a")
    cache.get("a")
    loads.error = RuntimeError()
    with pytest.raises(RuntimeError):
        cache.get("b")
    assert lookups("hit") == before["hit"] + 1
    assert lookups("miss") == before["miss"] + 2
    assert lookups("failed") == before["failed"] + 1


def lookups(result: str) -> float:
    labels = {"cache": "test", "result": result}
    return REGISTRY.get_sample_value("headrace_near_cache_lookups_total", labels) or 0
