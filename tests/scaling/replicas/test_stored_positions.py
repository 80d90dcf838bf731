"""The positions of writes that Redis has, lacks or does not take."""

from __future__ import annotations

import threading
import uuid

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

import scaling.redis_client
from access.models import Account
from chat.models import Chain
from scaling.replicas import last_writes, publishing, read_context
from scaling.replicas.decision import PRIMARY
from scaling.replicas.last_writes import LAST_WRITES
from scaling.replicas.middleware import ReplicaMiddleware
from scaling.replicas.position import Position
from scaling.replicas.topology import PRIMARY_FAILURES, TOPOLOGY
from tests.scaling.replicas.sampled_replica import (
    FAR,
    account,
    begin,
    read,
    replica,
)
from tests.support.redis_server import own_redis

__all__ = ["account", "own_redis", "replica"]


def test_without_redis_the_position_is_unknown(replica, account, own_redis):
    own_redis.kill()
    begin(account)
    assert read() == PRIMARY
    # What the client brings along is all that it can have seen.
    begin(account, min_position=Position(1, 1))
    assert read() == "r1"


def test_an_empty_redis_proves_nothing_until_it_is_old(replica, account):
    LAST_WRITES.trusted_from = float("inf")
    begin(account)
    assert read() == PRIMARY


def test_redis_is_not_read_while_no_replica_is_in_rotation(replica, account, monkeypatch):
    monkeypatch.setattr(LAST_WRITES, "required", lambda scope: pytest.fail("Redis was asked"))
    TOPOLOGY.replicas["r1"].is_detached = True
    begin(account)
    assert read() == PRIMARY
    assert read(Chain) == PRIMARY


def test_a_position_that_redis_does_not_take_is_waited_for(replica, account, own_redis):
    own_redis.kill()
    begin(account)
    Account.objects.create(name=account)
    replica(Position(1, 0))
    timer = threading.Timer(0.2, lambda: replica(FAR))
    timer.start()
    assert publishing.publish_position() is not None
    assert TOPOLOGY.replicas["r1"].replayed == FAR
    timer.join()
    # Redis gets it as soon as it is back.
    own_redis.start()
    scaling.redis_client.reset()
    LAST_WRITES.tick()
    assert own_redis.client().get(f"headrace:position:{account}")


def test_of_two_writers_without_redis_the_later_position_is_stored(account, own_redis, monkeypatch):
    monkeypatch.setattr(last_writes, "REPLAY_WAIT_SECONDS", 0.0)
    LAST_WRITES.tick()
    # A full Redis takes no writes, and stays in its epoch.
    own_redis.client().config_set("maxmemory", 1)
    # Who was the first at the primary may be the last here.
    LAST_WRITES.record([account], Position(1, 9))
    LAST_WRITES.record([account], Position(1, 7))
    assert not own_redis.client().exists(f"headrace:position:{account}")
    own_redis.client().config_set("maxmemory", 0)
    LAST_WRITES.tick()
    kept = own_redis.client().get(f"headrace:position:{account}")
    assert Position.parse(kept.decode()) == Position(1, 9)


def test_a_position_that_a_lost_primary_did_not_return_is_read_again(replica, account):
    begin(account)
    Account.objects.create(name=account)
    connection.connection.close()
    assert publishing.publish_position() is None
    assert publishing.publish_position(wait_seconds=5) is not None
    assert LAST_WRITES.required(account)


def test_a_commit_is_not_acknowledged_while_its_position_is_unknown(replica, account, monkeypatch):
    monkeypatch.setattr(publishing, "WAIT_SECONDS", 0.1)

    def view(request: HttpRequest) -> HttpResponse:
        context = read_context.current_context()
        assert context is not None
        context.bind_account(account, reads_replicas=False)
        Account.objects.create(name=account)
        connection.close()
        monkeypatch.setattr(TOPOLOGY.primary, "failures", PRIMARY_FAILURES)
        return HttpResponse(status=201)

    response = ReplicaMiddleware(view)(RequestFactory().post("/v1/conversations"))
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    # What was only tried is no promise, and is not waited for.
    begin(account)
    read_context.mark_written()
    assert publishing.publish_position(wait_seconds=5) is None
    # The test's database is needed again.
    monkeypatch.undo()


@pytest.mark.usefixtures("replica")
@pytest.mark.parametrize(("jump_seconds", "server"), [(600, PRIMARY), (-600, "r1")])
def test_a_redis_whose_clock_jumps_ahead_may_have_forgotten_positions(
    account, own_redis, monkeypatch, jump_seconds, server
):
    LAST_WRITES.tick()
    LAST_WRITES.record([account], Position(1, 7))
    LAST_WRITES.began_at -= 1000
    LAST_WRITES.tick()
    begin(uuid.uuid4().hex)
    assert read() == "r1"
    epoch, age, redis_time = scaling.redis_client.run(last_writes.read_epoch)
    answer = (epoch, age + jump_seconds, redis_time + jump_seconds)
    monkeypatch.setattr(last_writes, "read_epoch", lambda _: answer)
    own_redis.client().delete(f"headrace:position:{account}")
    LAST_WRITES.tick()
    begin(uuid.uuid4().hex)
    assert read() == server
    # This process stores its positions in Redis again.
    kept = own_redis.client().get(f"headrace:position:{account}")
    assert bool(kept) == (jump_seconds > 0)


def test_a_redis_that_lost_its_memory_gets_the_positions_again_and_is_trusted_later(
    replica, account, own_redis
):
    LAST_WRITES.tick()
    LAST_WRITES.record([account], Position(1, 7))
    own_redis.client().flushall()
    LAST_WRITES.tick()
    assert own_redis.client().get(f"headrace:position:{account}")
    begin(uuid.uuid4().hex)
    assert read() == PRIMARY
