"""Redis fails over behind one name: connections to the old server are dropped, by every client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import dramatiq
import pytest
import redis
from prometheus_client import REGISTRY
from redis import exceptions

import scaling.redis_client
from config.brokers.redis import make
from config.redis_connections import HeadraceRedis, ReadOnlyServer
from scaling.redis_client import RedisUnavailable, Script
from scaling.script_batch import ScriptBatch
from tests.support.background import stop_background_threads
from tests.support.forwarder import Forwarder
from tests.support.redis_server import OwnRedis

T = TypeVar("T")

WRITE = Script("return redis.call('INCR', KEYS[1])")
# A cache, and so a pool of connections, that nothing else in this process uses.
ALIAS = "failover"


class Failover:
    """Two servers behind one name, which leads to the first."""

    def __init__(self, directory: Path) -> None:
        self.servers = [OwnRedis(directory), OwnRedis(directory)]
        for server in self.servers:
            server.start()
        self.name = Forwarder(self.servers[0].port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.name.port}/0"

    def demote(self) -> None:
        """Make the first a replica of the second; the name still leads to it."""
        old, new = self.servers
        old.client().replicaof("127.0.0.1", new.port)

    def move(self) -> None:
        """Point the name at the second."""
        self.name.target = self.servers[1].port

    def stop(self) -> None:
        self.name.__exit__(None, None, None)
        for server in self.servers:
            server.kill()


@pytest.fixture
def failover(tmp_path: Path, settings: Any) -> Iterator[Failover]:
    settings.REDIS_RETRY_SECONDS = 0
    # A busy machine is not a frozen server.
    patience = {"SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 1}
    default = settings.CACHES["default"]
    pair = Failover(tmp_path)
    own = {**default, "LOCATION": pair.url, "OPTIONS": {**default["OPTIONS"], **patience}}
    settings.CACHES = {**settings.CACHES, ALIAS: own}
    scaling.redis_client.reset()
    yield pair
    pair.stop()
    scaling.redis_client.reset()


def run(work: Callable[[redis.Redis], T]) -> T:
    return scaling.redis_client.run(work, alias=ALIAS)


def command(client: redis.Redis) -> Any:
    return client.incr("counter")


def pipeline(client: redis.Redis) -> Any:
    both = client.pipeline(transaction=False)
    both.incr("counter")
    both.incr("other")
    return both.execute(raise_on_error=False)


def script(client: redis.Redis) -> Any:
    return WRITE(client, ["counter"], [])


@pytest.mark.parametrize("work", [command, pipeline, script])
def test_a_connection_that_hears_readonly_is_dropped(
    failover: Failover, work: Callable[[redis.Redis], Any]
) -> None:
    run(work)
    failover.demote()
    before = failures("readonly")
    with pytest.raises(RedisUnavailable) as failure:
        run(work)
    assert isinstance(failure.value.__cause__, ReadOnlyServer)
    assert failures("readonly") == before + 1
    # The name moves later than the server.
    with pytest.raises(RedisUnavailable):
        run(work)
    failover.move()
    run(work)
    assert failover.servers[1].client().get("counter") == b"1"


def test_a_batch_of_scripts_finds_the_new_server(failover: Failover, settings: Any) -> None:
    # One of these would meet the server that fails in the batch's place.
    stop_background_threads()
    settings.CACHES = {**settings.CACHES, "default": settings.CACHES[ALIAS]}
    scaling.redis_client.reset()
    batch = ScriptBatch()
    assert batch.call(WRITE, ["counter"], [], int) == 1
    failover.demote()
    failover.move()
    with pytest.raises(RedisUnavailable):
        batch.call(WRITE, ["counter"], [], int)
    assert batch.call(WRITE, ["counter"], [], int) == 1


def test_while_the_name_leads_to_a_read_only_server_it_is_called_once_a_retry_time(
    failover: Failover, settings: Any
) -> None:
    run(command)
    failover.demote()
    settings.REDIS_RETRY_SECONDS = 30
    before = failures("readonly")
    for _ in range(20):
        with pytest.raises(RedisUnavailable):
            run(command)
    assert failures("readonly") == before + 1


@pytest.mark.parametrize("how", ["frozen", "read-only"])
def test_the_idle_connections_go_with_the_one_that_failed(failover: Failover, how: str) -> None:
    # Each would cost a timeout and a retry time of its own.
    held: list[Any] = []

    def hold(client: redis.Redis) -> None:
        held.extend(client.connection_pool.get_connection() for _ in range(8))
        for connection in held:
            client.connection_pool.release(connection)

    run(hold)
    assert all(connection.is_connected for connection in held)
    if how == "frozen":
        failover.servers[0].freeze()
    else:
        failover.demote()
    failover.move()
    with pytest.raises(RedisUnavailable):
        run(command)
    assert [connection for connection in held if connection.is_connected] == []
    assert run(command) == 1


def test_a_connection_that_was_under_way_is_not_used_again(failover: Failover) -> None:
    def read_meanwhile(client: redis.Redis) -> None:
        pool = client.connection_pool
        connection, other = pool.get_connection(), pool.get_connection()
        pool.release(other)
        failover.demote()
        failover.move()
        with pytest.raises(ReadOnlyServer):
            command(client)
        # It has read from the old server all the while.
        connection.send_command("GET", "counter")
        assert connection.read_response() is None
        pool.release(connection)
        assert not connection.is_connected

    run(read_meanwhile)
    assert run(command) == 1


def test_a_refusal_drops_no_connection(failover: Failover) -> None:
    run(command)
    accepted = failover.name.accepted
    client = failover.servers[0].client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")
    for _ in range(3):
        with pytest.raises(RedisUnavailable) as refusal:
            run(command)
        assert isinstance(refusal.value.__cause__, exceptions.OutOfMemoryError)
        # Reads are answered in between.
        assert run(lambda client: client.get("counter")) == b"1"
    assert failover.name.accepted == accepted


def test_a_primary_without_its_replicas_counts_as_read_only(failover: Failover) -> None:
    run(command)
    failover.servers[0].client().config_set("min-replicas-to-write", "1")
    with pytest.raises(RedisUnavailable) as failure:
        run(command)
    assert isinstance(failure.value.__cause__, ReadOnlyServer)
    failover.move()
    assert run(command) == 1


def test_a_password_that_was_changed_shows_in_the_metric(failover: Failover) -> None:
    failover.servers[0].client().config_set("requirepass", "another")
    before = failures("auth")
    with pytest.raises(RedisUnavailable):
        run(command)
    assert failures("auth") == before + 1


def test_the_text_of_servers_before_7_is_understood() -> None:
    old = exceptions.ResponseError(
        "Error running script (call to f_12): @user_script:1: @user_script: 1: -READONLY You"
        " can't write against a read only replica."
    )
    answers = [old]

    class Connection:
        def read_response(self, **_: Any) -> Any:
            raise answers.pop()

    with pytest.raises(ReadOnlyServer):
        HeadraceRedis().parse_response(Connection(), "EVALSHA")


def test_the_broker_s_producer_and_consumer_find_the_new_server(failover: Failover) -> None:
    broker = make(failover.url)
    broker.declare_queue("default")
    message = dramatiq.Message(
        queue_name="default", actor_name="none", args=(), kwargs={}, options={}
    )
    consumer = broker.consume("default")
    assert next(consumer) is None
    failover.demote()
    failover.move()
    # Dramatiq restarts its consumer on this one.
    with pytest.raises(dramatiq.ConnectionClosed):
        next(consumer)
    broker.enqueue(message)
    assert next(broker.consume("default")) is not None
    assert failover.servers[1].client().exists("headrace:jobs:default.msgs")


def failures(kind: str) -> float:
    return REGISTRY.get_sample_value("headrace_redis_failures_total", {"kind": kind}) or 0
