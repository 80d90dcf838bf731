from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY
from redis import exceptions

import scaling.redis_client
from scaling.redis_client import Breaker, RedisUnavailable, Script, run
from tests.support.redis_server import own_redis, use_cache_url
from tests.support.waiting import slack

__all__ = ["own_redis"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def failures(kind: str) -> float:
    return REGISTRY.get_sample_value("headrace_redis_failures_total", {"kind": kind}) or 0


def test_a_closed_breaker_passes_all_calls():
    breaker = Breaker(clock=Clock())
    assert [breaker.enter(), breaker.enter()] == [False, False]
    assert not breaker.is_open


def test_an_open_breaker_passes_no_call_until_the_retry_time():
    clock = Clock()
    breaker = Breaker(clock=clock)
    assert breaker.fail(1.0)
    clock.now = 0.9
    with pytest.raises(RedisUnavailable) as refusal:
        breaker.enter()
    assert not refusal.value.may_have_run


def test_after_the_retry_time_one_caller_at_a_time_probes():
    clock = Clock()
    breaker = Breaker(clock=clock)
    breaker.fail(1.0)
    clock.now = 1.0
    assert breaker.enter()
    with pytest.raises(RedisUnavailable):
        breaker.enter()
    assert not breaker.fail(1.0)
    breaker.end_probe()
    with pytest.raises(RedisUnavailable):
        breaker.enter()
    clock.now = 2.0
    assert breaker.enter()
    breaker.succeed()
    breaker.end_probe()
    assert not breaker.is_open


def test_redis_answers_through_the_cache_of_the_settings(own_redis):
    run(lambda client: client.set("a", "1"))
    assert own_redis.client().get("a") == b"1"


def test_a_script_survives_a_server_that_forgot_it(own_redis):
    script = Script("return {KEYS[1], ARGV[1]}")
    assert run(lambda client: script(client, ["k"], [5])) == [b"k", b"5"]
    own_redis.client().script_flush()
    assert run(lambda client: script(client, ["k"], [6])) == [b"k", b"6"]


def test_a_dead_server_is_called_once_a_retry_time(own_redis, settings):
    settings.REDIS_RETRY_SECONDS = 0.3
    run(lambda client: client.ping())
    own_redis.kill()
    asked = []

    def ping(client):
        asked.append(1)
        return client.ping()

    for _ in range(100):
        with pytest.raises(RedisUnavailable):
            run(ping)
    assert len(asked) == 1
    time.sleep(0.35)
    own_redis.start()
    assert run(ping)
    assert run(ping)


@pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "connecting"])
def test_a_frozen_server_costs_one_timeout_and_then_nothing(own_redis, settings, is_connected):
    settings.REDIS_RETRY_SECONDS = 30
    if is_connected:
        run(lambda client: client.ping())
    own_redis.freeze()
    before = failures("timeout")
    started = time.monotonic()
    with pytest.raises(RedisUnavailable) as failure:
        run(lambda client: client.ping())
    assert time.monotonic() - started < slack(10 * settings.REDIS_TIMEOUT_SECONDS)
    assert failure.value.may_have_run
    assert failures("timeout") == before + 1
    started = time.monotonic()
    for _ in range(1000):
        with pytest.raises(RedisUnavailable):
            run(lambda client: client.ping())
    assert time.monotonic() - started < slack(0.5)


def test_while_a_probe_waits_others_are_refused_at_once(own_redis, settings):
    settings.REDIS_RETRY_SECONDS = 0
    run(lambda client: client.ping())
    own_redis.freeze()
    with pytest.raises(RedisUnavailable):
        run(lambda client: client.ping())
    is_probing, may_end = threading.Event(), threading.Event()

    def slow_probe(client):
        is_probing.set()
        may_end.wait(10)
        own_redis.thaw()
        return client.ping()

    outcome = []
    probe = threading.Thread(target=lambda: outcome.append(run(slow_probe)))
    probe.start()
    assert is_probing.wait(10)
    started = time.monotonic()
    with pytest.raises(RedisUnavailable):
        run(lambda client: client.ping())
    assert time.monotonic() - started < slack(1)
    may_end.set()
    probe.join(10)
    assert outcome == [True]
    assert run(lambda client: client.ping())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\xff\xfe" * 100 + b"\r\n",
        b":abc\r\n",
        b"",
        b"$5\r\n",
    ],
    ids=["http", "binary", "bad-number", "hang-up", "half"],
)
def test_garbage_instead_of_redis_is_unavailable_and_quick(settings, answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        use_cache_url(settings, f"redis://127.0.0.1:{listener.getsockname()[1]}/0")

        def serve():
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1024)
                    peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        started = time.monotonic()
        with pytest.raises(RedisUnavailable):
            run(lambda client: client.get("x"))
        assert time.monotonic() - started < slack(1)
        listener.shutdown(socket.SHUT_RDWR)
    scaling.redis_client.reset()


def test_a_refusal_by_redis_leaves_it_open_to_others(own_redis):
    run(lambda client: client.lpush("list", "x"))
    with pytest.raises(RedisUnavailable) as refusal:
        run(lambda client: client.get("list"))
    assert isinstance(refusal.value.__cause__, exceptions.ResponseError)
    assert run(lambda client: client.get("other")) is None


def test_an_exhausted_pool_of_our_own_does_not_stop_those_who_hold_connections(own_redis):
    def take_all(client):
        client.connection_pool.max_connections = 1
        connection = client.connection_pool.get_connection()
        try:
            with pytest.raises(RedisUnavailable) as refusal:
                run(lambda client: client.ping())
            assert not refusal.value.may_have_run
        finally:
            client.connection_pool.release(connection)

    run(take_all)
    assert run(lambda client: client.ping())


def test_more_callers_than_turns_wait_and_all_are_served(own_redis, monkeypatch):
    monkeypatch.setattr("scaling.redis_client.MAX_AT_ONCE", 2)
    scaling.redis_client.reset()
    asking, most = [], []

    def ping(client):
        asking.append(1)
        most.append(len(asking))
        answer = client.ping()
        asking.pop()
        return answer

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(lambda _: run(ping), range(200)))
    assert max(most) <= 2


def test_who_waits_too_long_for_a_turn_does_without(own_redis, monkeypatch):
    monkeypatch.setattr("scaling.redis_client.MAX_AT_ONCE", 1)
    monkeypatch.setattr("scaling.redis_client.MAX_WAIT_SECONDS", 0.02)
    scaling.redis_client.reset()

    def ask_again(client):
        with pytest.raises(RedisUnavailable) as refusal:
            run(lambda client: client.ping())
        assert not refusal.value.may_have_run

    before = failures("busy")
    run(ask_again)
    assert failures("busy") == before + 1
    assert run(lambda client: client.ping())


def test_all_who_wait_are_through_at_once_when_redis_freezes(own_redis, settings):
    settings.REDIS_RETRY_SECONDS = 30
    run(lambda client: client.ping())
    own_redis.freeze()

    def timed(_):
        started = time.monotonic()
        with pytest.raises(RedisUnavailable):
            run(lambda client: client.ping())
        return time.monotonic() - started

    with ThreadPoolExecutor(200) as pool:
        assert max(pool.map(timed, range(200))) < 1


def test_a_busy_process_does_not_take_its_own_slowness_for_redis_s(own_redis):
    # All greenlets send, then each computes for longer than the timeout before the next one may
    # read an answer that has long been there.
    code = f"""
from gevent import monkey; monkey.patch_all()
import time, gevent, django
from django.conf import settings
settings.configure(
    REDIS_RETRY_SECONDS=30,
    CACHES={{"default": {{"BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "{own_redis.url}",
        "OPTIONS": {{"SOCKET_TIMEOUT": 0.05, "SOCKET_CONNECT_TIMEOUT": 0.05}}}}}})
from scaling.redis_client import run
def work():
    for _ in range(3):
        assert run(lambda client: client.ping())
        until = time.monotonic() + 0.02
        while time.monotonic() < until: pass
done = gevent.joinall([gevent.spawn(work) for _ in range(20)])
assert all(one.successful() for one in done)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
