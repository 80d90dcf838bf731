"""Parts of which one half hangs: what is open goes on, and nobody waits for the other half."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

import scaling.redis_client
from scaling.redis_client import RedisUnavailable, run
from tests.faults.test_frozen_nodes import (
    BOUND_SECONDS,
    Outcome,
    are_up,
    ask,
    at_node,
    lone,
    read_stream,
)
from tests.support.fake_node import FakeNode
from tests.support.forwarder import Forwarder
from tests.support.lone_proxy import LoneProxy
from tests.support.redis_server import OwnRedis, own_redis, use_cache_url
from tests.support.waiting import eventually, slack

__all__ = ["lone", "own_redis"]

# A stream that HAProxy ends with a frozen node's ends by then: its checks, and what it waits more.
FROZEN_SECONDS = 10.0
# By so much a request must be older than the first late check to have been begun for certain.
LAST_CHECK_SECONDS = 4.5

pytestmark = pytest.mark.timeout(120, func_only=True)


@pytest.fixture
def redis_name(own_redis: OwnRedis, settings: Any) -> Iterator[Forwarder]:
    """The name of a Redis."""
    settings.REDIS_RETRY_SECONDS = 0.3
    with Forwarder(own_redis.port) as name:
        use_cache_url(settings, f"redis://127.0.0.1:{name.port}/0")
        yield name


def test_a_node_whose_new_connections_hang_leaves_and_its_streams_go_on(lone: LoneProxy) -> None:
    lone.add_node()
    half = FakeNode("node2")
    lone.nodes.append(half)
    with (
        Forwarder(half.port) as name,
        ThreadPoolExecutor(20) as threads,
        contextlib.ExitStack() as stack,
    ):
        # What still runs ends before the threads are waited for.
        stack.callback(lone.kill)
        lone.api.add(half.name, host="127.0.0.1", port=name.port)
        are_up(lone, 2)
        streams = []
        for _ in range(4):
            streams.append(threads.submit(read_stream, lone))
            time.sleep(0.15)
        assert at_node(lone, half.name) >= 1
        name.is_silent = True
        are_up(lone, 1)
        asked = [threads.submit(ask, lone, "GET", "/echo", is_first=True) for _ in range(8)]
        assert [one.result().status for one in asked] == [200] * 8
        time.sleep(FROZEN_SECONDS)
        assert not any(stream.done() for stream in streams)
        name.is_silent = False
        are_up(lone, 2)


def test_requests_that_such_a_node_has_not_begun_end_and_its_others_go_on(lone: LoneProxy) -> None:
    other = lone.add_node()
    half = FakeNode("node2")
    lone.nodes.append(half)
    with (
        Forwarder(half.port) as name,
        ThreadPoolExecutor(20) as threads,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(lone.kill)
        lone.api.add(half.name, host="127.0.0.1", port=name.port)
        are_up(lone, 2)
        # Of two nodes that are as busy, each gets every other one.
        begun = []
        for work in (read_stream, wait_for_long) * 2:
            for _ in range(2):
                begun.append(threads.submit(work, lone))
                time.sleep(0.15)
        of_half = at_node(lone, half.name)
        assert of_half >= 2
        time.sleep(LAST_CHECK_SECONDS)
        name.is_silent = True
        accepted = name.accepted
        asked = [
            threads.submit(ask, lone, method, "/echo", is_first=True, **headers)
            for method, headers in [("GET", {}), ("POST", {"idempotency-key": "a"}), ("POST", {})]
            * 4
        ]
        outcomes = [one.result() for one in asked]
        assert name.accepted > accepted, "none of them came to the node"
        statuses = {
            method: Counter(one.status for one in outcomes[first::3])
            for first, method in enumerate(("GET", "POST with a key", "POST"))
        }
        assert statuses["GET"] == statuses["POST with a key"] == {200: 4}
        assert statuses["POST"].keys() == {200, 502}
        assert 2 < max(one.seconds for one in outcomes) < slack(BOUND_SECONDS)
        # What it had begun, and what the other node has, goes on.
        time.sleep(FROZEN_SECONDS)
        assert not any(one.done() for one in begun)
        assert at_node(lone, half.name) == of_half
        assert at_node(lone, other.name) >= 2
        name.is_silent = False
        are_up(lone, 2)


def wait_for_long(lone: LoneProxy) -> Outcome:
    """Send what is silent for minutes."""
    return ask(lone, "POST", "/wait", is_first=True)


def test_a_redis_whose_new_connections_hang_is_asked_over_those_that_are_open(
    redis_name: Forwarder,
) -> None:
    assert run(_ping)
    redis_name.is_silent = True
    assert run(_ping)
    before = redis_name.accepted

    def hold(client: Redis) -> None:
        # The one that is open is in use.
        connection = client.connection_pool.get_connection()
        try:
            with pytest.raises(RedisUnavailable) as late:
                run(_ping)
            assert late.value.may_have_run
            # One caller has waited; the others do without at once.
            for _ in range(20):
                with pytest.raises(RedisUnavailable) as refused:
                    run(_ping)
                assert not refused.value.may_have_run
        finally:
            client.connection_pool.release(connection)

    run(hold)
    assert redis_name.accepted == before + 1
    eventually(_answers, seconds=10, what="the open connection is asked again")
    assert redis_name.accepted == before + 1
    redis_name.is_silent = False
    assert run(_ping)


def _ping(client: Redis) -> bool:
    return bool(client.ping())


def _answers() -> bool:
    try:
        return run(_ping)
    except scaling.redis_client.RedisUnavailable:
        return False
