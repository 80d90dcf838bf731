"""The pure decisions: which server, and whether a replica may serve."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.replicas.decision import PRIMARY, Candidate, choose
from scaling.replicas.health import SILENT_TICKS, PrimaryLog, Sample, fault_of
from scaling.replicas.last_writes import sortable
from scaling.replicas.position import Position, lsn_of, lsn_text

positions = st.builds(Position, st.integers(1, 3), st.integers(0, 2**64 - 1))
candidates = st.builds(
    Candidate,
    name=st.sampled_from(["a", "b", "c", "d"]),
    is_in_rotation=st.booleans(),
    replayed=st.none() | positions,
    busy=st.integers(0, 20),
    is_ready=st.booleans(),
)


@given(
    st.lists(candidates, max_size=4, unique_by=lambda c: c.name),
    st.none() | positions,
    st.booleans(),
)
def test_no_read_goes_where_its_position_is_not_replayed(servers, required, is_primary_ready):
    choice = choose(servers, required, is_primary_ready=is_primary_ready)
    if choice.server == PRIMARY:
        fit = [
            c
            for c in servers
            if c.is_in_rotation
            and (required is None or (c.replayed is not None and c.replayed.covers(required)))
        ]
        assert not any(c.is_ready for c in fit)
        if fit:
            assert is_primary_ready
            assert choice.reason == "no_connection"
            assert choice.wanted in {c.name for c in fit}
            return
        assert choice.reason == ("behind" if any(c.is_in_rotation for c in servers) else "none")
        return
    chosen = next(c for c in servers if c.name == choice.server)
    assert chosen.is_in_rotation
    if required is not None:
        assert chosen.replayed is not None
        assert chosen.replayed.lsn >= required.lsn
        assert chosen.replayed.timeline >= required.timeline
    assert choice.reason == "replica"


@given(st.lists(candidates, min_size=1, max_size=4, unique_by=lambda c: c.name))
def test_the_least_busy_of_those_that_may_is_chosen(servers):
    choice = choose(servers, None, is_primary_ready=False)
    in_rotation = [c for c in servers if c.is_in_rotation]
    if fit := [c for c in in_rotation if c.is_ready] or in_rotation:
        assert next(c for c in servers if c.name == choice.server) in fit
        assert choice.wanted == ("" if fit[0].is_ready else choice.server)
        least = min(c.busy for c in fit)
        assert next(c for c in servers if c.name == choice.server).busy == least


def test_no_read_waits_for_a_replica_while_another_server_is_ready():
    waits, serves = Candidate("a", True, None, 0, is_ready=False), Candidate("b", True, None, 7)
    assert choose([waits, serves], None, preferred="a") == ("b", "replica", "")
    assert choose([waits], None) == (PRIMARY, "no_connection", "a")
    assert choose([waits], None, is_primary_ready=False) == ("a", "replica", "a")


def test_a_replica_of_before_a_failover_shows_no_later_write_however_far_it_is():
    old = Candidate("old", True, Position(1, 1000), 0)
    assert choose([old], Position(2, 960)).server == PRIMARY


def test_a_replica_of_after_a_failover_does_not_show_what_it_has_not_replayed():
    new = Candidate("new", True, Position(2, 930), 0)
    assert choose([new], Position(1, 940)).server == PRIMARY


@given(positions)
def test_a_position_survives_its_text(position):
    assert Position.parse(str(position)) == position
    assert lsn_of(lsn_text(position.lsn)) == position.lsn


@given(positions, positions)
def test_positions_in_redis_sort_as_positions(first, second):
    assert (sortable(first) < sortable(second)) == (first < second)


@pytest.mark.parametrize(
    "text",
    ["", "1", "1-", "-1", "1-g", "1-1 ", " 1-1", "1-1\n", "٣-1", "1" * 9 + "-1", "1-" + "1" * 17],
)
def test_other_texts_are_no_positions(text):
    with pytest.raises(ValueError, match="must look like"):
        Position.parse(text)


def sample(lsn: int, *, timeline: int = 1, is_in_recovery: bool = True) -> Sample:
    return Sample(
        taken_at=0.0,
        is_in_recovery=is_in_recovery,
        position=Position(timeline, lsn),
        started_at="then",
    )


def log_at(*seen: tuple[float, int], timeline: int = 1) -> PrimaryLog:
    log = PrimaryLog(seconds=100.0)
    for at, lsn in seen:
        log.add(at, Position(timeline, lsn))
    return log


def fault(
    taken: Sample | None,
    log: PrimaryLog,
    *,
    now: float = 10.0,
    ticks: int = 0,
    hung_connects: int = 0,
    grace_seconds: float = 0.0,
) -> str:
    return fault_of(
        taken,
        now=now,
        silent_ticks=ticks,
        hung_connects=hung_connects,
        log=log,
        max_lag_seconds=2.0,
        grace_seconds=grace_seconds,
    )


def test_faults_have_names():
    log = log_at((1.0, 100), (9.0, 200))
    assert fault(None, log) == "unreachable"
    assert fault(sample(200), log, ticks=SILENT_TICKS) == "unreachable"
    assert fault(sample(200), log, hung_connects=1) == "hanging"
    assert fault(sample(200, is_in_recovery=False), log) == "promoted"
    assert fault(sample(200), log_at((1.0, 100), timeline=2)) == "other_timeline"
    # It follows a new primary before this process knows of it.
    assert fault(sample(200, timeline=2), log) == ""
    assert fault(sample(99), log) == "lagging"
    assert fault(sample(100), log) == ""
    assert fault(sample(200), log) == ""


def test_a_replica_of_another_cluster_serves_nothing_however_far_it_is():
    log = PrimaryLog(seconds=100.0)
    log.add(9.0, Position(1, 200), system=1)
    assert fault(replace(sample(300), system=2), log) == "other_cluster"
    assert fault(replace(sample(300), system=1), log) == ""


def test_writes_that_a_dead_primary_did_not_send_make_no_replica_lag_for_a_while():
    log = log_at((1.0, 100), (8.0, 200), (9.0, 300))
    assert fault(sample(150), log, now=50.0, grace_seconds=41.0) == ""
    assert fault(sample(150), log, now=50.1, grace_seconds=41.0) == "lagging"
    # Who was too late when the primary was lost is too late still.
    assert fault(sample(99), log, now=10.0, grace_seconds=41.0) == "lagging"
    assert fault(sample(300), log, now=500.0, grace_seconds=41.0) == ""
    # While no process hears the primary, nothing is written.
    assert fault(sample(150), log, now=1e9, grace_seconds=math.inf) == ""
    assert fault(sample(99), log, now=1e9, grace_seconds=math.inf) == "lagging"


def test_lag_is_the_time_since_the_primary_was_first_ahead():
    log = log_at((1.0, 100), (2.0, 200), (3.0, 200), (4.0, 300))
    assert log.lag_seconds(10.0, Position(1, 300)) == 0
    assert log.lag_seconds(10.0, Position(1, 250)) == 6.0
    assert log.lag_seconds(10.0, Position(1, 199)) == 8.0
    assert log.lag_bytes(Position(1, 250)) == 50


def test_an_idle_primary_makes_no_replica_lag():
    log = log_at((1.0, 100), (50.0, 100), (90.0, 100))
    assert log.lag_seconds(95.0, Position(1, 100)) == 0


def test_a_log_forgets_what_is_old_and_what_was_another_timelines():
    log = PrimaryLog(seconds=10.0)
    for second in range(100):
        log.add(float(second), Position(1, second))
    assert len(log) <= 12
    # One that is later than is remembered is at least so late.
    assert log.lag_seconds(100.0, Position(1, 0)) >= 10.0
    log.add(101.0, Position(2, 50))
    assert log.lag_seconds(102.0, Position(2, 60)) == 0
