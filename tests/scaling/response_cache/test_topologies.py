"""Redis behind Sentinels and as a cluster, for cached answers and for the limits' scripts."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

import scaling.redis_client
from scaling.redis_client import RedisUnavailable, Script, run
from scaling.response_cache.store import ALL, StoreUnavailable, get_store
from scaling.script_batch import ScriptBatch
from tests.scaling.response_cache.conftest import use
from tests.scaling.response_cache.servers import OwnSentinel, PlainRedis, wait_until
from tests.support.waiting import slack


@pytest.fixture
def pair(tmp_path):
    """Return a master, its replica, and a Sentinel that watches them."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(PlainRedis(tmp_path / name))
        made[-1].start()
    master, replica = made
    # Else it waits five seconds for more replicas.
    master.client().config_set("repl-diskless-sync-delay", 0)
    replica.client().replicaof("127.0.0.1", master.port)
    wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", ())
    sentinel = OwnSentinel(tmp_path, master="My-Main", of=master)
    sentinel.start()
    yield master, replica, sentinel
    sentinel.kill()
    for server in made:
        server.kill()


def test_a_store_behind_sentinels_follows_the_master(pair, settings):
    settings.REDIS_RETRY_SECONDS = 0.1
    master, replica, sentinel = pair
    use(settings, f"redis+sentinel://127.0.0.1:{sentinel.port}/My-Main/0")
    store = get_store()
    store.set("a", b"1", 600)
    store.bump_generation(ALL)
    generations = store.read_generations()
    assert store.get_many(["a", "b"]) == [b"1", None]
    assert store.add("lock", b"me", 60)
    assert master.client().exists("headrace:cache:value:a")
    wait_until(lambda: replica.client().exists("headrace:cache:value:lock"), ())
    wait_until(lambda: len(sentinel.client().sentinel_slaves("My-Main")) == 1, ())
    master.kill()
    slowest, deadline = 0.0, time.monotonic() + slack(30)
    while True:
        assert time.monotonic() < deadline
        started = time.monotonic()
        with suppress(StoreUnavailable):
            store.set("b", b"2", 600)
            break
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(0.05)
    assert slowest < slack(0.2)
    assert store.get_many(["a", "b"]) == [b"1", b"2"]
    assert store.read_generations() == generations
    assert store.delete_if("lock", b"me")


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_sentinel_that_is_unavailable_costs_little(pair, settings, how):
    sentinel = pair[2]
    use(settings, f"redis+sentinel://127.0.0.1:{sentinel.port}/My-Main")
    if how == "killed":
        sentinel.kill()
    else:
        sentinel.freeze()
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        get_store().get_many(["a"])
    assert time.monotonic() - started < slack(0.2)


def test_a_master_that_no_sentinel_knows_is_unavailable(pair, settings):
    use(settings, f"redis+sentinel://127.0.0.1:{pair[2].port}/other")
    with pytest.raises(StoreUnavailable):
        get_store().get_many(["a"])


@pytest.mark.parametrize("server", ["cluster"], indirect=True)
def test_the_limits_scripts_run_on_a_cluster(server, settings):
    settings.CACHES = {**settings.CACHES, "default": settings.CACHES["responses"]}
    scaling.redis_client.reset()
    script = Script("return {KEYS[1], KEYS[2], tonumber(ARGV[1])}")
    batch = ScriptBatch()
    for number in (1, 2):
        answer = batch.call(script, ["{x}:a", "{x}:b"], [number], lambda answer: answer)
        assert answer == [b"{x}:a", b"{x}:b", number]
    server.client().script_flush()
    assert batch.call(script, ["{x}:a", "{x}:b"], [3], lambda answer: answer)[2] == 3


@pytest.mark.parametrize("server", ["cluster"], indirect=True)
def test_a_cluster_without_slots_is_called_once_a_retry_time(server, settings):
    settings.REDIS_RETRY_SECONDS = 30
    run(lambda client: client.set("a", "1"), alias="responses")
    server.client().execute_command("CLUSTER", "DELSLOTSRANGE", 0, 16383)
    try:
        with pytest.raises(RedisUnavailable):
            run(lambda client: client.get("a"), alias="responses")
        started = time.monotonic()
        for _ in range(100):
            with pytest.raises(RedisUnavailable):
                run(lambda client: client.get("a"), alias="responses")
        assert time.monotonic() - started < slack(0.2)
    finally:
        server.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)


def test_a_failing_server_of_answers_leaves_the_limits_alone(settings, tmp_path):
    limits, answers = PlainRedis(tmp_path), PlainRedis(tmp_path)
    try:
        limits.start()
        answers.start()
        use(settings, answers.url)
        default = {**settings.CACHES["default"], "LOCATION": limits.url}
        settings.CACHES = {**settings.CACHES, "default": default}
        scaling.redis_client.reset()
        get_store().set("a", b"1", 60)
        assert limits.client().dbsize() == 0
        answers.kill()
        with pytest.raises(StoreUnavailable):
            get_store().get_many(["a"])
        assert run(lambda client: client.ping())
    finally:
        limits.kill()
        answers.kill()
