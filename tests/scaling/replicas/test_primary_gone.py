"""While the primary is gone, reads go on, and none misses a write that a replica lacks."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from scaling.redis_client import RedisUnavailable
from scaling.replicas import last_writes
from scaling.replicas.decision import PRIMARY
from scaling.replicas.health import GOOD_SAMPLES, Sample
from scaling.replicas.last_writes import LAST_WRITES, LastWrites
from scaling.replicas.position import Position
from scaling.replicas.primary_contact import (
    HEARD_SECONDS,
    KEY,
    LIFETIME_SECONDS,
    RENEW_SECONDS,
    PrimaryContact,
)
from scaling.replicas.topology import PRIMARY_FAILURES, TOPOLOGY
from tests.scaling.replicas.sampled_replica import begin, read
from tests.support.redis_server import OwnRedis, own_redis
from tests.support.waiting import eventually

__all__ = ["own_redis"]

STORED_SECONDS = 0.6
SENT, UNSENT = Position(1, 7), Position(1, 9)


@pytest.fixture(autouse=True)
def gone(own_redis: OwnRedis, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A replica that lacks the last write of a primary that does not answer."""
    settings.POSITION_SECONDS = STORED_SECONDS
    TOPOLOGY.set_replicas(["r1"])
    server = TOPOLOGY.replicas["r1"]
    server.take(Sample(taken_at=0, is_in_recovery=True, position=SENT, started_at=""))
    server.fault, server.good_samples = "", GOOD_SAMPLES
    monkeypatch.setattr(TOPOLOGY.log, "heard_at", time.monotonic())
    monkeypatch.setattr(TOPOLOGY.primary, "failures", PRIMARY_FAILURES)
    yield
    TOPOLOGY.set_replicas([])


def process() -> LastWrites:
    """Return the view of a process for which a position that Redis lacks is proof."""
    positions = LastWrites()

    def is_trusted() -> bool:
        tick(positions)
        return positions.required("no account") is None

    eventually(is_trusted, seconds=5, what="Redis is trusted")
    return positions


def tick(positions: LastWrites) -> None:
    """Do what the watcher does, on a machine that may be busy."""
    with contextlib.suppress(RedisUnavailable):
        positions.tick()


def ticked(positions: LastWrites, *, seconds: float) -> LastWrites:
    """Let time pass, as the watcher does."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        tick(positions)
        time.sleep(0.05)
    return positions


@pytest.fixture
def reader(settings: Any) -> Iterator[ThreadPoolExecutor]:
    """A thread that reads, in a process that trusts Redis."""
    settings.REDIS_RETRY_SECONDS = 0.2
    LAST_WRITES.reset()
    eventually(is_redis_trusted, seconds=5, what="Redis is trusted")
    with ThreadPoolExecutor(1) as thread:
        yield thread
    LAST_WRITES.reset()


def is_redis_trusted() -> bool:
    """Do what the watcher does at a tick; return whether Redis is trusted then."""
    try:
        LAST_WRITES.tick()
    except RedisUnavailable:
        LAST_WRITES.distrust()
    return LAST_WRITES.is_trusted


def begin_read(reader: ThreadPoolExecutor) -> Future[str]:
    """Read for an account that wrote nothing."""

    def read_for_account() -> str:
        begin(uuid.uuid4().hex)
        return read()

    return reader.submit(read_for_account)


def test_a_read_waits_for_a_redis_that_fails_for_a_moment(
    own_redis: OwnRedis, reader: ThreadPoolExecutor
) -> None:
    own_redis.freeze()
    assert not is_redis_trusted()
    choice = begin_read(reader)
    own_redis.thaw()
    assert not choice.done()
    eventually(is_redis_trusted, seconds=5, what="Redis is trusted")
    assert choice.result(10) == "r1"


def test_no_read_waits_for_a_redis_that_is_gone(
    own_redis: OwnRedis, reader: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_redis.freeze()
    monkeypatch.setattr(TOPOLOGY.primary, "failures", 0)
    assert begin_read(reader).result(10) == PRIMARY
    # It went to a primary that answers without a wait, and to one that does not after it.
    assert LAST_WRITES.is_recovering
    monkeypatch.setattr(TOPOLOGY.primary, "failures", PRIMARY_FAILURES)
    assert begin_read(reader).result(10) == PRIMARY
    assert not LAST_WRITES.is_recovering


def test_a_replica_that_answers_again_is_read_at_once_where_no_other_server_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    TOPOLOGY.set_replicas(["r1", "r2"])
    server, other = TOPOLOGY.replicas.values()
    other.fault, other.good_samples = "", 1
    TOPOLOGY.admit_last_resort()
    assert not other.is_in_rotation
    server.fault = "unreachable"
    TOPOLOGY.admit_last_resort()
    assert (server.is_in_rotation, other.is_in_rotation) == (False, True)
    other.good_samples = 1
    monkeypatch.setattr(TOPOLOGY.primary, "failures", 0)
    TOPOLOGY.admit_last_resort()
    assert not other.is_in_rotation


def test_the_position_of_a_write_that_a_replica_lacks_stays(own_redis: OwnRedis) -> None:
    writer, other = process(), process()
    writer.record(["lacks"], UNSENT)
    writer.record(["has"], SENT)
    ticked(writer, seconds=2 * STORED_SECONDS)
    for positions in (writer, other, process()):
        assert positions.required("lacks") == UNSENT
        assert positions.required("has") is None
    # Also of a process that ends now.
    del writer
    time.sleep(2 * STORED_SECONDS)
    assert process().required("lacks") == UNSENT
    assert own_redis.client().pttl("headrace:position:lacks") <= last_writes.RETAINED_SECONDS * 1000


def test_once_the_primary_is_back_they_are_forgotten_as_ever(
    own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = process()
    writer.record(["lacks"], UNSENT)
    ticked(writer, seconds=0.2)
    monkeypatch.setattr(TOPOLOGY.primary, "failures", 0)
    ticked(writer, seconds=2 * STORED_SECONDS)
    own_redis.client().delete("headrace:position:lacks")
    assert writer.required("lacks") is None
    # Another write's position is stored for as long as any.
    writer.record(["lacks"], Position(1, 12))
    assert own_redis.client().pttl("headrace:position:lacks") <= STORED_SECONDS * 1000


def test_a_position_is_stored_again_before_it_expires(
    own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_writes, "RETAINED_SECONDS", 2.0)
    writer = process()
    writer.record(["lacks"], UNSENT)
    ticked(writer, seconds=3.0)
    assert process().required("lacks") == UNSENT


def test_a_process_that_is_cut_off_learns_whether_others_hear_the_primary(
    own_redis: OwnRedis,
) -> None:
    now = time.monotonic()
    cut_off, other = PrimaryContact(), PrimaryContact()
    assert cut_off.is_heard
    cut_off.tick(now, heard_at=now - HEARD_SECONDS)
    assert not cut_off.is_heard
    other.tick(now, heard_at=now)
    cut_off.tick(now + RENEW_SECONDS, heard_at=now - HEARD_SECONDS)
    assert cut_off.is_heard
    assert own_redis.client().pttl(KEY) > 0
    own_redis.client().delete(KEY)
    cut_off.tick(now + 2 * RENEW_SECONDS, heard_at=now - HEARD_SECONDS)
    assert not cut_off.is_heard


def test_what_redis_answered_last_counts_while_positions_are_stored(settings: Any) -> None:
    settings.POSITION_SECONDS, settings.REPLICA_MAX_LAG_SECONDS = 14.0, 2.0
    now = time.monotonic()
    cut_off = PrimaryContact()
    cut_off.lose_redis(now)
    assert cut_off.is_heard
    cut_off.tick(now, heard_at=now - HEARD_SECONDS)
    cut_off.lose_redis(now + 12 - LIFETIME_SECONDS)
    assert not cut_off.is_heard
    cut_off.lose_redis(now + 12.1 - LIFETIME_SECONDS)
    assert cut_off.is_heard
