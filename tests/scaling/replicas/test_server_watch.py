"""Names that move, and connections that hang: the stack's PostgreSQL behind a forwarder."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import connections

from config.database import database_from_url
from scaling.replicas import read_context, routing
from scaling.replicas.backend import pools
from scaling.replicas.decision import PRIMARY
from scaling.replicas.health import GOOD_SAMPLES, Sample
from scaling.replicas.last_writes import LAST_WRITES
from scaling.replicas.position import Position
from scaling.replicas.read_scopes import ACCOUNT
from scaling.replicas.server_watch import ServerWatch
from scaling.replicas.topology import TOPOLOGY, Server
from tests.stack_plugin import EmbeddedStack
from tests.support.forwarder import Forwarder
from tests.support.pgbouncer import bouncer
from tests.support.waiting import eventually

ALIAS = "moving"
SECONDS = 15.0

Watched = tuple[ServerWatch, list[Sample]]


@pytest.fixture
def ports(stack: EmbeddedStack) -> tuple[int, int]:
    """The ports of the stack's primary and of a replica."""
    replica = next(iter(stack.replica_urls.values()))
    urls = (stack.database_url, replica)
    return tuple(urlsplit(url).port for url in urls)  # type: ignore[return-value]


@pytest.fixture
def forwarder(ports: tuple[int, int]) -> Iterator[Forwarder]:
    """A name that leads to the replica."""
    with Forwarder(ports[1]) as running:
        yield running


@pytest.fixture
def name_server(stack: EmbeddedStack, settings: object) -> Iterator[Callable[[str], None]]:
    """Return a function that sets the alias of a URL's server."""
    settings.DATABASE_PROBE_SECONDS = 0.3  # type: ignore[attr-defined]

    def name(url: str) -> None:
        pool = {**django_settings.REPLICA_POOL, "timeout": 10.0}
        entry = database_from_url("URL", url, pool=pool, options={})
        entry["OPTIONS"]["connect_timeout"] = 2
        connections.settings[ALIAS] = connections.configure_settings({PRIMARY: entry})[PRIMARY]

    yield name
    pools.close_pool(ALIAS)
    connections.settings.pop(ALIAS, None)


@pytest.fixture
def watch(stack: EmbeddedStack) -> Iterator[Callable[[], Watched]]:
    """Return what begins to watch the server."""
    begun: list[ServerWatch] = []

    def begin() -> Watched:
        samples: list[Sample] = []

        def take(server: Server, sample: Sample) -> None:
            server.take(sample)
            samples.append(sample)

        begun.append(ServerWatch(Server(ALIAS), take))
        return begun[-1], samples

    yield begin
    for one in begun:
        one.is_over = True


def through(forwarder: Forwarder, stack: EmbeddedStack) -> str:
    direct = urlsplit(stack.database_url)
    return direct._replace(
        netloc=f"{direct.username}:{direct.password}@127.0.0.1:{forwarder.port}"
    ).geturl()


@pytest.fixture(params=["directly", "through PgBouncer"])
def url(
    request: pytest.FixtureRequest, stack: EmbeddedStack, forwarder: Forwarder, tmp_path: Path
) -> Iterator[str]:
    """The URL by the name."""
    url = through(forwarder, stack)
    if request.param == "directly":
        yield url
        return
    with bouncer(tmp_path, url, server_connections=3) as pooled:
        yield pooled.url


@pytest.fixture(params=["PostgreSQL", "PgBouncer"])
def replica_url(
    request: pytest.FixtureRequest, stack: EmbeddedStack, forwarder: Forwarder, tmp_path: Path
) -> Iterator[str]:
    """The URL by a name that leads to the replica, or to a PgBouncer before it."""
    if request.param == "PostgreSQL":
        yield through(forwarder, stack)
        return
    direct = next(iter(stack.replica_urls.values()))
    with bouncer(tmp_path, direct, server_connections=3) as pooler:
        forwarder.target = urlsplit(pooler.url).port or 0
        yield through(forwarder, stack)


@pytest.fixture
def primary_watch(
    name_server: Callable[[str], None],
    watch: Callable[[], Watched],
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Watched:
    """Watch the server as the primary."""
    name_server(url)
    one, samples = watch()
    monkeypatch.setattr(TOPOLOGY, "primary", one.server)
    one.start()
    return one, samples


def test_a_primary_whose_name_leads_to_a_replica_is_found_once_that_moves(
    primary_watch, forwarder, ports
) -> None:
    one, samples = primary_watch
    eventually(lambda: one.server.is_unavailable, seconds=SECONDS, what="it is unavailable")
    assert not samples
    # What is open stays at the replica.
    forwarder.target = ports[0]
    eventually(lambda: bool(samples), seconds=SECONDS, what="the primary is found")
    assert not samples[-1].is_in_recovery


def test_a_name_that_moves_from_one_good_server_to_another_is_followed(
    stack, forwarder, ports, name_server, watch
) -> None:
    name_server(through(forwarder, stack))
    one, samples = watch()
    one.start()
    eventually(lambda: bool(samples), seconds=SECONDS, what="the replica answers")
    forwarder.target = ports[0]

    def has_moved() -> bool:
        one.tick(time.monotonic())
        return not samples[-1].is_in_recovery

    eventually(has_moved, seconds=SECONDS, what="the other server answers")


def test_a_pooler_that_is_frozen_is_unavailable_until_it_goes_on(
    stack, name_server, watch, tmp_path
) -> None:
    with bouncer(tmp_path, stack.database_url, server_connections=3) as pooler:
        name_server(pooler.url)
        one, samples = watch()
        one.start()
        eventually(lambda: bool(samples), seconds=SECONDS, what="the primary answers")
        pooler.process.send_signal(signal.SIGSTOP)

        def is_unavailable() -> bool:
            # Its query is aborted, and its new connections hang.
            one.tick(time.monotonic())
            return one.server.is_unavailable

        eventually(is_unavailable, seconds=SECONDS, what="it is unavailable")
        pooler.process.send_signal(signal.SIGCONT)
        eventually(lambda: not one.server.is_unavailable, seconds=SECONDS, what="it is back")


def test_a_pooler_whose_server_accepts_no_new_connection_is_unavailable_while_it_has_none_free(
    stack, forwarder, name_server, watch, tmp_path
) -> None:
    with bouncer(tmp_path, through(forwarder, stack), server_connections=3) as pooler:
        name_server(pooler.url)
        one, samples = watch()
        one.start()
        eventually(lambda: bool(samples), seconds=SECONDS, what="the replica answers")
        forwarder.is_silent = True

        def has_failed() -> bool:
            one.tick(time.monotonic())
            return bool(one.server.failures)

        with psycopg.connect(pooler.url) as connection:
            # Open until the block ends, and with it the one connection that the pooler has.
            connection.execute("SELECT 1")
            eventually(has_failed, seconds=SECONDS, what="a question is given up")
        eventually(lambda: not has_failed(), seconds=SECONDS, what="the open one answers")


def test_a_server_that_answers_and_accepts_no_new_connection_hangs(
    replica_url, forwarder, name_server, watch
) -> None:
    name_server(replica_url)
    one, samples = watch()
    one.start()
    eventually(lambda: bool(samples), seconds=SECONDS, what="the replica answers")
    forwarder.is_silent = True

    def hangs(is_hanging: bool) -> Callable[[], bool]:
        def look() -> bool:
            one.tick(time.monotonic())
            return bool(one.server.hung_connects) == is_hanging

        return look

    eventually(hangs(True), seconds=SECONDS, what="a new connection hangs")
    before = len(samples)
    eventually(lambda: len(samples) > before, seconds=SECONDS, what="the open one answers")
    forwarder.is_silent = False
    eventually(hangs(False), seconds=SECONDS, what="new connections are made again")


def test_who_waits_for_a_pool_that_is_renewed_is_served(stack, forwarder, name_server) -> None:
    name_server(through(forwarder, stack))
    forwarder.is_silent = True
    pools.grow(ALIAS)
    connection: Any = connections.create_connection(ALIAS)
    pool = connection.pool
    eventually(lambda: forwarder.accepted >= 1, seconds=SECONDS, what="the pool connects")
    taken: list[Any] = []
    thread = threading.Thread(target=lambda: taken.append(pool.getconn()))
    thread.start()
    eventually(lambda: pool.get_stats()["requests_waiting"] > 0, seconds=5, what="it waits")
    pools.renew_pool(ALIAS)
    connection = connections.create_connection(ALIAS)
    assert connection.pool is not pool
    forwarder.is_silent = False
    thread.join(SECONDS)
    assert taken
    pool.putconn(taken[0])
    eventually(lambda: pool.closed, seconds=SECONDS, what="the old pool is closed")


@pytest.mark.django_db(transaction=True)
def test_no_read_waits_for_a_replica_whose_pool_has_no_connection(
    stack, forwarder, name_server, monkeypatch
) -> None:
    name_server(through(forwarder, stack))
    monkeypatch.setattr(LAST_WRITES, "trusted_from", 0.0)
    TOPOLOGY.set_replicas([ALIAS])
    sample = Sample(taken_at=0, is_in_recovery=True, position=Position(1, 0), started_at="")
    server = TOPOLOGY.replicas[ALIAS]
    server.take(sample)
    server.fault, server.good_samples = "", GOOD_SAMPLES
    forwarder.is_silent = True
    try:
        connections[PRIMARY].ensure_connection()
        read_context.start_request().bind_account("a" * 32, reads_replicas=True)
        with read_context.replica():
            assert routing.server_for(ACCOUNT) == PRIMARY
        # The pool grew in between; that attempt hangs, and the next does not.
        eventually(lambda: forwarder.accepted >= 1, seconds=SECONDS, what="the pool connects")
        forwarder.is_silent = False
        eventually(lambda: pools.has_idle(ALIAS), seconds=SECONDS, what="the pool has one")
        with read_context.replica():
            assert routing.server_for(ACCOUNT) == ALIAS
    finally:
        TOPOLOGY.set_replicas([])
        read_context.deactivate()
