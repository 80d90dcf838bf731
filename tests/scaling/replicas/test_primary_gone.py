"""While the primary is gone, reads go on, and none misses a write that a replica lacks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from scaling.redis_client import RedisUnavailable
from scaling.replicas import last_writes
from scaling.replicas.health import GOOD_SAMPLES, Sample
from scaling.replicas.last_writes import LastWrites
from scaling.replicas.position import Position
from scaling.replicas.primary_contact import HEARD_SECONDS, KEY, RENEW_SECONDS, PrimaryContact
from scaling.replicas.topology import PRIMARY_FAILURES, TOPOLOGY
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
