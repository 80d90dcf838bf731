"""Stores whose servers are frozen, killed or no servers, and callers that are killed or slow."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from scaling.response_cache.store import (
    StoreUnavailable,
    get_store,
)
from tests.scaling.response_cache.conftest import use
from tests.scaling.response_cache.servers import OwnMemcached
from tests.support.waiting import slack

# For a call on a server that does not answer: two timeouts of 50 ms, and what a busy machine adds.
SLOWEST_SECONDS = 0.2

CALLS = {
    "get_many": lambda store: store.get_many(["a", "b"]),
    "set": lambda store: store.set("a", b"1", 60),
    "set_many": lambda store: store.set_many(["a", "b"], b"1", 60),
    "delete": lambda store: store.delete("a"),
    "add": lambda store: store.add("a", b"1", 60),
    "renew_if": lambda store: store.renew_if("a", b"1", 60),
    "delete_if": lambda store: store.delete_if("a", b"1"),
    "read_generations": lambda store: store.read_generations(),
    "bump_generation": lambda store: store.bump_generation("chain:x"),
}


@pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "connecting"])
def test_a_frozen_server_costs_little_and_comes_back(server, settings, is_connected):
    settings.REDIS_RETRY_SECONDS = 0.3
    for call in CALLS.values():
        use(settings, server.url)
        if is_connected:
            call(get_store())
        server.freeze()
        fails_quickly(call)
        server.thaw()
        comes_back(call)


def test_a_killed_server_costs_little_and_comes_back(server, settings):
    settings.REDIS_RETRY_SECONDS = 0.3
    get_store().get_many(["a"])
    server.kill()
    for call in CALLS.values():
        fails_quickly(call)
        # A new breaker calls at once; only the first call had a connection to lose.
        use(settings, server.url)
    fails_quickly(CALLS["add"])
    server.start()
    for call in CALLS.values():
        comes_back(call)


def fails_quickly(call) -> None:
    """Check that a first call costs a timeout or two, and others nothing."""
    store = get_store()
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        call(store)
    assert time.monotonic() - started < slack(SLOWEST_SECONDS)
    started = time.monotonic()
    for _ in range(50):
        with pytest.raises(StoreUnavailable) as failure:
            call(store)
        assert not failure.value.may_have_run
    assert time.monotonic() - started < slack(SLOWEST_SECONDS)


def comes_back(call) -> None:
    """Check that a call succeeds again, once the breaker lets one through."""
    deadline = time.monotonic() + slack(5)
    while True:
        try:
            call(get_store())
        except StoreUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


RUBBISH = {
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "binary": bytes(random.Random(1).randbytes(500)) + b"\r\n",
    "hang-up": b"",
    "half": b"VALUE headrace:cache:value:a 0 5\r\nx",
    "another key": b"VALUE other 0 1\r\nx\r\nEND\r\n",
    "no number": b"VALUE headrace:cache:value:a 0 many\r\nx\r\nEND\r\n",
    "redis": b"$5\r\nhello\r\n",
    "redis array": b"*1\r\n$1\r\nx\r\n",
}


@pytest.mark.parametrize("answer", RUBBISH.values(), ids=RUBBISH)
@pytest.mark.parametrize("kind", ["redis", "memcached"])
def test_rubbish_instead_of_a_server_is_unavailable_and_quick(settings, kind, answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        peer.recv(1024)
                        peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        for call in CALLS.values():
            use(settings, f"{kind}://127.0.0.1:{listener.getsockname()[1]}")
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                call(get_store())
            assert time.monotonic() - started < slack(SLOWEST_SECONDS)
        listener.shutdown(socket.SHUT_RDWR)


def test_one_of_two_memcacheds_serves_its_keys_while_the_other_is_unavailable(settings):
    servers = [OwnMemcached(), OwnMemcached()]
    try:
        for server in servers:
            server.start()
        use(settings, f"memcached://127.0.0.1:{servers[0].port},127.0.0.1:{servers[1].port}")
        store = get_store()
        keys = [f"key:{number}" for number in range(100)]
        for key in keys:
            store.set(key, key.encode(), 60)
        assert store.get_many(keys) == [key.encode() for key in keys]
        servers[0].kill()
        served = 0
        for key in keys:
            with suppress(StoreUnavailable):
                assert store.get_many([key]) == [key.encode()]
                served += 1
        assert 20 < served < 80
    finally:
        for server in servers:
            server.kill()


def test_a_busy_process_does_not_take_its_own_slowness_for_the_server_s(server):
    # All greenlets send, then each computes for longer than the timeout before the next one may
    # read an answer that has long been there.
    code = """
from gevent import monkey; monkey.patch_all()
import time, gevent, django
django.setup()
from scaling.response_cache.store import get_store
store = get_store()
def work():
    for _ in range(3):
        store.get_many(["a"])
        until = time.monotonic() + 0.02
        while time.monotonic() < until: pass
done = gevent.joinall([gevent.spawn(work) for _ in range(20)])
assert all(one.successful() for one in done)
"""
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "CACHE_URL": server.url,
        "REDIS_URL": "redis://127.0.0.1:1",
    }
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)


def test_a_killed_greenlet_leaves_no_answer_to_the_next_caller(server):
    code = """
from gevent import monkey; monkey.patch_all()
import random, gevent, django
django.setup()
from scaling.response_cache.store import get_store
store = get_store()
keys = [f"key:{number}" for number in range(20)]
for key in keys:
    store.set(key, key.encode() * 2000, 60)
chance = random.Random(1)
def work(key):
    while True:
        assert store.get_many([key]) == [key.encode() * 2000], key
        gevent.sleep(0)
failed = 0
for _ in range(30):
    running = [gevent.spawn(work, key) for key in keys]
    gevent.sleep(chance.random() / 100)
    gevent.killall(running)
    failed += sum(not isinstance(one.value, gevent.GreenletExit) for one in running)
assert failed == 0, failed
assert store.get_many(keys) == [key.encode() * 2000 for key in keys]
"""
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "CACHE_URL": server.url,
        "REDIS_URL": "redis://127.0.0.1:1",
        "REDIS_TIMEOUT_SECONDS": "2",
    }
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)
