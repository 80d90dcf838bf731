"""The behaviour of every store, on real servers that are healthy or full."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import orjson
import pytest
from prometheus_client import REGISTRY

from scaling.response_cache import memcached_store
from scaling.response_cache.store import (
    ALL,
    MAX_GENERATIONS,
    NotSupported,
    StoreUnavailable,
    get_store,
)
from tests.scaling.response_cache.conftest import use
from tests.scaling.response_cache.servers import OwnMemcached


@pytest.fixture(autouse=True)
def _patience(settings):
    """Wait for servers that are healthy: a busy machine is not a frozen server."""
    settings.REDIS_TIMEOUT_SECONDS = 5


def test_values_come_back_in_the_order_of_the_keys(store):
    store.set("a", b"1", 60)
    store.set("c", bytes(range(256)), 60)
    store.set("empty", b"", 60)
    assert store.get_many(["c", "b", "a", "empty", "a"]) == [
        bytes(range(256)),
        None,
        b"1",
        b"",
        b"1",
    ]
    assert store.get_many([]) == []


def test_one_value_is_stored_under_several_keys(store):
    store.set("b", b"2", 60)
    store.set_many(["a", "b", "c"], b"1", 60)
    assert store.get_many(["a", "b", "c"]) == [b"1"] * 3
    store.set_many(["d"], b"4", 0.2)
    assert store.get_many(["d"]) == [b"4"]
    store.set_many([], b"5", 60)


def test_a_second_value_replaces_the_first(store):
    store.set("a", b"1", 60)
    store.set("a", b"2", 60)
    assert store.get_many(["a"]) == [b"2"]


def test_a_deleted_key_is_gone_and_can_be_deleted_again(store):
    store.set("a", b"1", 60)
    store.delete("a")
    store.delete("a")
    assert store.get_many(["a"]) == [None]


def test_a_value_lasts_its_time_and_no_more_than_two_seconds_longer(store):
    started = time.monotonic()
    store.set("short", b"1", 0.5)
    store.set("days", b"1", 90 * 24 * 3600)
    assert store.get_many(["short"]) == [b"1"]
    while store.get_many(["short"]) == [b"1"]:
        assert time.monotonic() < started + 2.6
        time.sleep(0.02)
    assert time.monotonic() > started + 0.5
    assert store.get_many(["short", "days"]) == [None, b"1"]


def test_keys_of_any_shape_are_distinct(store):
    keys = ["a b", "a\r\nb", "x" * 5000, "x" * 5001, "ключ", "a\0", "marks", ""]
    for number, key in enumerate(keys):
        store.set(key, str(number).encode(), 60)
    assert store.get_many(keys) == [str(number).encode() for number in range(len(keys))]


def test_one_of_fifty_threads_gets_a_lock(store):
    for attempt in range(3):
        start = threading.Barrier(50)

        def take(number, start=start, attempt=attempt):
            start.wait()
            return store.add(f"lock:{attempt}", str(number).encode(), 60)

        with ThreadPoolExecutor(50) as pool:
            wins = list(pool.map(take, range(50)))
        assert wins.count(True) == 1
        assert store.get_many([f"lock:{attempt}"]) == [str(wins.index(True)).encode()]


def test_only_its_holder_renews_a_lock(store):
    assert store.add("lock", b"me", 0.5)
    assert not store.renew_if("lock", b"other", 60)
    assert store.renew_if("lock", b"me", 60)
    # One that was taken later, and is not renewed, is gone first.
    assert store.add("not volatile_texts", b"me", 0.5)
    while store.get_many(["not volatile_texts"]) == [b"me"]:
        time.sleep(0.02)
    assert store.get_many(["lock"]) == [b"me"]
    assert not store.renew_if("none", b"me", 60)


def test_only_its_holder_releases_a_lock(store):
    assert store.add("lock", b"me", 60)
    assert not store.delete_if("lock", b"other")
    assert not store.add("lock", b"other", 60)
    assert store.delete_if("lock", b"me")
    assert not store.delete_if("lock", b"me")
    assert store.add("lock", b"other", 60)


def test_one_of_fifty_threads_releases_a_lock(store):
    assert store.add("lock", b"me", 60)
    with ThreadPoolExecutor(50) as pool:
        released = list(pool.map(lambda _: store.delete_if("lock", b"me"), range(50)))
    assert released.count(True) == 1


def test_marks_begin_with_all_and_count_up(store):
    before = store.read_generations()
    assert before.keys() == {ALL}
    assert abs(before[ALL] / 1000 - time.time()) < 10
    store.bump_generation("chain:a")
    store.bump_generation("chain:a")
    account = f"account:{uuid4()}"
    store.bump_generation(account)
    store.bump_generation(ALL)
    assert store.read_generations() == {
        ALL: before[ALL] + 1,
        "chain:a": 2,
        account: 1,
    }


def test_no_bump_of_many_threads_is_lost(store):
    before = store.read_generations()[ALL]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: store.bump_generation(ALL), range(200)))
    assert store.read_generations() == {ALL: before + 200}


def test_lost_marks_come_back_as_a_later_generation(store, server):
    for _ in range(3):
        store.bump_generation(ALL)
    before = store.read_generations()
    time.sleep(0.01)
    server.flush()
    assert store.read_generations()[ALL] > before[ALL]


def test_a_bump_after_a_loss_is_a_later_generation(store, server):
    before = store.read_generations()
    time.sleep(0.01)
    server.flush()
    store.bump_generation("chain:a")
    assert store.read_generations()[ALL] > before[ALL]


@pytest.mark.parametrize("server", ["redis", "memcached"], indirect=True)
def test_too_many_marks_become_one_bump_of_all(store, server):
    before = store.read_generations()[ALL]
    fill_generations(server, {ALL: before} | {f"chain:{n}": 1 for n in range(MAX_GENERATIONS - 1)})
    store.bump_generation("chain:0")
    generations = store.read_generations()
    assert len(generations) == MAX_GENERATIONS
    assert (generations[ALL], generations["chain:0"]) == (before, 2)
    store.bump_generation("chain:one-too-many")
    assert store.read_generations() == {ALL: before + 1}


@pytest.mark.parametrize("server", ["redis", "cluster"], indirect=True)
def test_redis_counts_its_keys_by_batches(store, server):
    sizes = {f"key:{n}": n % 7 + 1 for n in range(1500)}
    for key, size in sizes.items():
        store.set(key, b"x" * size, 60)
    store.bump_generation("chain:x")
    server.client().set("somebody-else", "x")
    batches = list(store.count())
    assert max(map(len, batches)) < len(sizes)
    assert dict(pair for batch in batches for pair in batch) == sizes


@pytest.mark.parametrize("server", ["memcached"], indirect=True)
def test_memcached_cannot_count_its_keys(store):
    with pytest.raises(NotSupported):
        store.count()


@pytest.mark.parametrize("server", ["redis"], indirect=True)
def test_a_full_redis_is_unavailable_and_still_read(store, server):
    store.set("a", b"1", 60)
    server.client().config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable):
            store.set("b", b"1", 60)
        assert store.get_many(["a"]) == [b"1"]
    finally:
        server.client().config_set("maxmemory", "0")


@pytest.mark.parametrize("server", ["redis"], indirect=True)
def test_rubbish_among_redis_marks_is_unavailable(store, server):
    server.client().hset("headrace:cache:marks", mapping={"all": "1", "chain:a": b"\xff"})
    with pytest.raises(StoreUnavailable):
        store.read_generations()


@pytest.mark.parametrize("server", ["memcached"], indirect=True)
@pytest.mark.parametrize("rubbish", [b"\xff", b"[]", b'{"chain:a":1}', b'{"all":true}', b""])
def test_rubbish_instead_of_memcached_s_marks_becomes_a_later_generation(store, server, rubbish):
    before = store.read_generations()
    time.sleep(0.01)
    server.client().set(memcached_store.GENERATIONS_KEY, rubbish, noreply=False)
    after = store.read_generations()
    assert after.keys() == {ALL}
    assert after[ALL] > before[ALL]


@pytest.mark.parametrize("server", ["memcached"], indirect=True)
@pytest.mark.parametrize("over", [-1, 0, 1, 10_000_000])
def test_memcached_keeps_no_value_above_its_limit_and_counts_it(store, over):
    value = b"x" * (memcached_store.MAX_VALUE_BYTES + over)
    before = too_large()
    store.set("k" * 200, b"earlier", 60)
    store.set("k" * 200, value, 60)
    assert store.get_many(["k" * 200]) == ([value] if over <= 0 else [None])
    assert too_large() - before == (1 if over > 0 else 0)


def test_a_memcached_with_a_smaller_limit_stays_in_use(settings):
    server = OwnMemcached("-I", "512k")
    server.start()
    try:
        use(settings, server.url)
        before = too_large()
        get_store().set("a", b"x" * 700_000, 60)
        assert too_large() == before + 1
        assert get_store().get_many(["a"]) == [None]
        get_store().set("a", b"1", 60)
        assert get_store().get_many(["a"]) == [b"1"]
    finally:
        server.kill()


def test_a_full_memcached_is_unavailable_and_still_read(settings):
    server = OwnMemcached("-M", "-m", "2")
    server.start()
    try:
        use(settings, server.url)
        store = get_store()
        store.set("first", b"1", 60)

        def fill():
            for number in range(100):
                store.set(f"key:{number}", b"x" * 500_000, 60)

        with pytest.raises(StoreUnavailable, match="out of memory"):
            fill()
        assert store.get_many(["first"]) == [b"1"]
    finally:
        server.kill()


def test_the_kind_that_is_not_chosen_is_not_imported():
    code = """
import django, sys
django.setup()
from scaling.response_cache.store import get_store
assert not {n for n in sys.modules if n.startswith("scaling.response_cache.") and "_store" in n}
get_store()
print(*sorted(n.rsplit(".")[-1] for n in sys.modules if n.endswith(("s_store", "d_store"))))
"""
    for url, expected in (("redis://127.0.0.1:1", "redis"), ("memcached://h:1", "memcached")):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "CACHE_URL": url,
                "REDIS_URL": "redis://127.0.0.1:1",
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert result.stdout.split() == [f"{expected}_store"]


def too_large() -> float:
    return REGISTRY.get_sample_value("headrace_cache_too_large_total") or 0


def fill_generations(server, generations) -> None:
    """Write generations as the store would have, without ten thousand bumps."""
    if isinstance(server, OwnMemcached):
        server.client().set(
            memcached_store.GENERATIONS_KEY, orjson.dumps(generations), noreply=False
        )
    else:
        server.client().hset("headrace:cache:marks", mapping=generations)
