"""The process's own cache: bounds, expiry and the way it is shared."""

from __future__ import annotations

import gc
import random
import resource
import threading

import pytest
from prometheus_client import REGISTRY

from scaling.response_cache.memory_store import OVERHEAD_BYTES, MemoryStore


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make(**options):
    limits = {"max_bytes": 1_000_000, "max_entries": 100, "max_seconds": 5.0}
    return MemoryStore(**{**limits, **options})


def test_a_value_comes_back_until_it_expires():
    clock = Clock()
    near = make(clock=clock)
    near.put("a", "A", 10, 2)
    assert near.get("a") == "A"
    clock.now += 1.99
    assert near.get("a") == "A"
    clock.now += 0.01
    assert near.get("a") is None
    assert (len(near), near.bytes) == (0, 0)
    assert near.get("b") is None


def test_no_value_is_cached_longer_than_the_store_allows():
    clock = Clock()
    near = make(clock=clock)
    near.put("a", "A", 10, 3600)
    clock.now += 5
    assert near.get("a") is None


def test_a_new_value_lasts_its_own_time():
    clock = Clock()
    near = make(clock=clock)
    near.put("a", "A", 10, 1)
    clock.now += 0.9
    near.put("a", "B", 20, 1)
    clock.now += 0.9
    assert near.get("a") == "B"
    assert (len(near), near.bytes) == (1, 20 + OVERHEAD_BYTES)


def test_the_least_recently_used_goes_first():
    near = make(max_entries=3)
    for key in "abc":
        near.put(key, key, 1, 5)
    assert near.get("a") == "a"
    near.put("d", "d", 1, 5)
    assert [near.get(key) for key in "abcd"] == ["a", None, "c", "d"]


def test_bytes_are_bounded_as_well():
    near = make(max_bytes=4 * (1000 + OVERHEAD_BYTES))
    for key in "abcdef":
        near.put(key, key, 1000, 5)
    assert [near.get(key) for key in "abcdef"] == [None, None, "c", "d", "e", "f"]
    near.put("large", "l", 3 * (1000 + OVERHEAD_BYTES) - OVERHEAD_BYTES, 5)
    assert [near.get(key) for key in ("c", "d", "e", "f", "large")] == [None] * 3 + ["f", "l"]
    assert near.bytes == 4 * (1000 + OVERHEAD_BYTES)


@pytest.mark.parametrize(
    "options", [{"max_entries": 0}, {"max_bytes": 0}, {"max_seconds": 0.0}, {"max_bytes": 499}]
)
def test_a_value_that_does_not_fit_is_not_cached_and_evicts_nothing(options):
    near = make(**options)
    near.put("a", "A", 200, 5)
    assert near.get("a") is None
    assert (len(near), near.bytes) == (0, 0)


def test_a_value_that_is_too_large_takes_the_place_of_the_old_one():
    near = make(max_bytes=1000)
    near.put("a", "A", 10, 5)
    near.put("a", "B", 5000, 5)
    assert near.get("a") is None
    assert near.bytes == 0


def test_drop_and_clear_forget():
    near = make()
    for key in "abc":
        near.put(key, key, 10, 5)
    near.drop("a")
    near.drop("a")
    assert [near.get(key) for key in "abc"] == [None, "b", "c"]
    near.clear()
    assert (len(near), near.bytes, near.get("b")) == (0, 0, None)


def test_memory_is_flat_under_a_million_distinct_values():
    near = make(max_bytes=8 * 1024 * 1024, max_entries=5000)
    peak = 0
    for number in range(1_000_000):
        near.put(f"key:{number}", bytes(1000), 1000, 5)
        if number % 1000 == 0:
            assert len(near) <= 5000
            assert near.bytes <= 8 * 1024 * 1024
        if number == 100_000:
            gc.collect()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.collect()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 4096


def test_threads_share_it_and_its_sums_stay_right():
    near = make(max_entries=50, max_bytes=30_000, max_seconds=0.0005)
    failures = []

    def work(seed):
        chance = random.Random(seed)
        try:
            for _ in range(20_000):
                key = str(chance.randrange(80))
                what = chance.random()
                if what < 0.6:
                    assert near.get(key) in (None, key)
                elif what < 0.95:
                    near.put(key, key, chance.randrange(1000), 5)
                else:
                    near.drop(key)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    # What is counted is the sum of what is there.
    for key in range(80):
        near.drop(str(key))
    assert (len(near), near.bytes) == (0, 0)


def test_the_gauges_show_the_last_store_for_as_long_as_it_lives():
    near = make()
    near.put("a", "A", 10, 5)
    near.put("b", "B", 10, 5)
    assert gauges() == (2 * (10 + OVERHEAD_BYTES), 2)
    del near
    gc.collect()
    assert gauges() == (0, 0)


def gauges():
    names = ("headrace_cache_near_bytes", "headrace_cache_near_entries")
    return tuple(REGISTRY.get_sample_value(name) for name in names)
