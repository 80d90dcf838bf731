"""Reads while the primary does not answer; PostgreSQL and Redis are real, replicas samples."""

from __future__ import annotations

import pytest
from django.db.utils import OperationalError

from chat.models import Chain
from scaling.replicas import routing
from scaling.replicas.backend import pools
from scaling.replicas.decision import PRIMARY
from scaling.replicas.health import SILENT_TICKS
from scaling.replicas.last_writes import LAST_WRITES, SHARED_SCOPE
from scaling.replicas.position import Position
from scaling.replicas.topology import TOPOLOGY
from tests.scaling.replicas.sampled_replica import FAR, account, begin, read, replica, set_replayed

__all__ = ["account", "replica"]


def test_keys_and_chains_are_read_from_a_late_replica_while_the_primary_does_not_answer(
    replica, account, monkeypatch
):
    replica(Position(1, 5))
    LAST_WRITES.record([SHARED_SCOPE], Position(1, 9))
    begin(account)
    assert read(Chain) == PRIMARY
    monkeypatch.setattr(TOPOLOGY.primary, "failures", 1)
    assert (read(Chain), read()) == ("r1", "r1")
    # What an account wrote is promised to it.
    LAST_WRITES.record([account], Position(1, 9))
    begin(account)
    assert (read(Chain), read()) == ("r1", PRIMARY)
    TOPOLOGY.replicas["r1"].is_detached = True
    assert read(Chain) == PRIMARY


def test_what_a_late_replica_lacks_is_no_proof_that_it_is_not_there(replica, account, monkeypatch):
    replica(Position(1, 5))
    LAST_WRITES.record([SHARED_SCOPE], Position(1, 9))
    monkeypatch.setattr(TOPOLOGY.primary, "failures", 1)

    def look_up(answer: object) -> object:
        if read(Chain) == PRIMARY:
            raise OperationalError("the primary is unavailable")
        return answer

    begin(account)
    assert routing.repeated_elsewhere(lambda: look_up("a row")) == "a row"
    with pytest.raises(OperationalError):
        routing.repeated_elsewhere(lambda: look_up(None))
    # One that has everything is believed.
    replica(FAR)
    begin(account)
    assert routing.repeated_elsewhere(lambda: look_up(None)) is None


@pytest.mark.parametrize(("pool_seconds", "tries"), [(60.0, 2), (0.0, 1)])
def test_while_the_primary_does_not_answer_replicas_have_a_second_try_if_there_is_time(
    replica, monkeypatch, settings, pool_seconds, tries
):
    settings.DATABASE_POOL = {**settings.DATABASE_POOL, "timeout": pool_seconds}
    TOPOLOGY.set_replicas(["r1", "r2"])
    set_replayed("r2", FAR)
    monkeypatch.setattr(TOPOLOGY.primary, "failures", 1)
    begin("a" * 32)
    servers: list[str] = []

    def work() -> str:
        servers.append(read())
        raise OperationalError("gone")

    with pytest.raises(OperationalError):
        routing.repeated_elsewhere(work)
    assert servers.pop() == PRIMARY
    assert sorted(servers) == sorted(["r1", "r2"] * tries)


def test_a_primary_that_does_not_answer_is_no_substitute_for_a_busy_replica(
    replica, account, monkeypatch
):
    monkeypatch.setattr(pools, "has_idle", lambda alias: alias == PRIMARY)
    begin(account)
    assert read() == PRIMARY
    monkeypatch.setattr(TOPOLOGY.primary, "silent_ticks", SILENT_TICKS)
    assert read() == "r1"
