"""One call for many, among threads and among processes, and what ends a wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scaling.response_cache.entry import Entry, decode, encode
from scaling.response_cache.single_flight import (
    LAST_POLL_SECONDS,
    LEASE_SECONDS,
    Leader,
    SingleFlight,
)
from scaling.response_cache.store import get_store
from tests.scaling.response_cache.entries import make_entry
from tests.support.waiting import slack

pytestmark = pytest.mark.parametrize("server", ["redis"], indirect=True)

# What a busy machine adds to a wait.
SLACK_SECONDS = 0.5
# Leads until it is killed.
LEADER = """
import sys, time
import django
django.setup()
from scaling.response_cache.single_flight import SINGLE_FLIGHT
leader = SINGLE_FLIGHT.do(sys.argv[1], find=lambda: None, wait_seconds=0)
print("leads" if leader.token else "has no lock", flush=True)
time.sleep(60)
"""


@pytest.fixture
def make_flights(server: Any) -> Iterator[Callable[[], SingleFlight]]:
    """Return a maker of what each process has one of."""
    made: list[SingleFlight] = []

    def make() -> SingleFlight:
        made.append(SingleFlight())
        return made[-1]

    yield make
    for flights in made:
        flights.reset()


@pytest.fixture
def key() -> str:
    return f"flight:{uuid.uuid4().hex}"


def stored(key: str) -> Entry | None:
    (raw,) = get_store().get_many([key])
    return None if raw is None else decode(raw)


def join(flights: SingleFlight, key: str, *, wait_seconds: float = 10.0) -> Entry | Leader:
    return flights.do(key, find=lambda: stored(key), wait_seconds=wait_seconds)


def leader_of(flights: SingleFlight, key: str, *, wait_seconds: float = 10.0) -> Leader:
    joined = join(flights, key, wait_seconds=wait_seconds)
    assert isinstance(joined, Leader)
    return joined


def test_one_leads_among_threads_of_two_processes(make_flights, key):
    processes = [make_flights(), make_flights()]
    for turn in range(20):
        name, calls, gate = f"{key} {turn}", [], threading.Barrier(16)

        def ask(number: int, *, name=name, calls=calls, gate=gate) -> Entry:
            gate.wait()
            joined = join(processes[number % 2], name)
            if isinstance(joined, Entry):
                return joined
            calls.append(number)
            time.sleep(0.05)
            entry = make_entry(f"by {number}".encode())
            get_store().set(name, encode(entry), 60)
            joined.complete(entry)
            return entry

        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(ask, range(16)))
        assert len(calls) == 1
        assert {answer.body for answer in answers} == {f"by {calls[0]}".encode()}


def test_a_leader_that_lives_is_not_replaced_however_long_it_takes(make_flights, key):
    ours, theirs = make_flights(), make_flights()
    leader = leader_of(ours, key)
    started = time.monotonic()
    while time.monotonic() < started + LEASE_SECONDS + 1.5:
        assert theirs.try_begin(key) is None
        assert ours.try_begin(key) is None
        time.sleep(0.2)
    leader.complete(make_entry())
    assert isinstance(theirs.try_begin(key), Leader)


def test_a_leader_that_is_killed_is_replaced_when_its_lease_is_over(server, make_flights, key):
    process = subprocess.Popen(
        [sys.executable, "-c", LEADER, key],
        env={**os.environ, "CACHE_URL": server.url, "DJANGO_SETTINGS_MODULE": "config.settings"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "leads\n"
        # Longer than a lease: it is renewed.
        time.sleep(LEASE_SECONDS + 0.5)
        flights = make_flights()
        assert flights.try_begin(key) is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = time.monotonic()
    leader = leader_of(flights, key)
    assert leader.token
    assert time.monotonic() - killed < slack(LEASE_SECONDS + LAST_POLL_SECONDS + SLACK_SECONDS)


def test_a_failure_reaches_the_waiting_requests_of_the_process_and_no_others(make_flights, key):
    ours, theirs = make_flights(), make_flights()
    leader = leader_of(ours, key)
    with ThreadPoolExecutor(5) as threads:
        waiting = [threads.submit(join, ours, key) for _ in range(4)]
        other = threads.submit(join, theirs, key)
        time.sleep(0.1)
        error = ValueError("the provider failed")
        leader.fail(error)
        assert [one.exception(5) for one in waiting] == [error] * 4
        # Another process makes its own call.
        replacing = other.result(5)
    assert isinstance(replacing, Leader)
    assert replacing.token
    replacing.abandon()
    assert leader_of(ours, key).token


def test_when_a_leader_gives_up_exactly_one_of_the_others_leads(make_flights, key):
    flights = make_flights()
    first = leader_of(flights, key)
    leaders: list[Leader] = []

    def ask() -> Entry:
        joined = join(flights, key)
        if isinstance(joined, Entry):
            return joined
        leaders.append(joined)
        time.sleep(0.2)
        entry = make_entry(b"of the second")
        joined.complete(entry)
        return entry

    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(ask) for _ in range(8)]
        time.sleep(0.1)
        first.abandon()
        answers = [one.result(5) for one in waiting]
    assert len(leaders) == 1
    assert leaders[0] is not first
    assert all(answer is answers[0] for answer in answers)


def test_an_end_after_the_end_takes_nothing_from_the_next(make_flights, key):
    ours, theirs = make_flights(), make_flights()
    first = leader_of(ours, key)
    first.abandon()
    second = leader_of(ours, key)
    first.abandon()
    assert ours.try_begin(key) is None
    assert theirs.try_begin(key) is None
    second.complete(make_entry())
    assert leader_of(theirs, key).token


def test_who_has_waited_long_enough_leads_alone(make_flights, key):
    ours, theirs = make_flights(), make_flights()
    leader = leader_of(ours, key)
    started = time.monotonic()
    alone = leader_of(ours, key, wait_seconds=0.3)
    assert 0.3 <= time.monotonic() - started < slack(0.3 + SLACK_SECONDS)
    assert alone.is_alone
    assert not leader.is_alone
    elsewhere = leader_of(theirs, key, wait_seconds=0.3)
    assert not elsewhere.token
    # Neither ends the flight that they did not wait for.
    alone.complete(make_entry())
    elsewhere.complete(make_entry())
    assert ours.try_begin(key) is None
    assert theirs.try_begin(key) is None


@pytest.mark.parametrize("harm", ["kill", "freeze"])
def test_without_redis_each_process_leads_and_none_waits(server, make_flights, key, harm, settings):
    ours, theirs = make_flights(), make_flights()
    before = leader_of(ours, key)
    getattr(server, harm)()
    started = time.monotonic()
    leader = theirs.do(key, find=lambda: None, wait_seconds=10)
    assert isinstance(leader, Leader)
    assert time.monotonic() - started < slack(2 * settings.REDIS_TIMEOUT_SECONDS + 0.1)
    assert not leader.token
    # Within a process one still leads.
    assert theirs.try_begin(key) is None
    before.complete(make_entry())
    leader.complete(make_entry())
    again = ours.try_begin(key)
    assert again is not None
    assert not again.token
    server.thaw()


def test_a_leader_that_lost_its_lock_leaves_the_next_ones_alone(server, make_flights, key):
    ours, theirs, third = make_flights(), make_flights(), make_flights()
    lost = leader_of(ours, key)
    server.flush()
    leader = leader_of(theirs, key)
    assert leader.token
    lost.complete(make_entry())
    assert third.try_begin(key) is None
    leader.complete(make_entry())
    assert third.try_begin(key) is not None


def test_rubbish_in_the_place_of_a_lock_ends_no_call_and_no_wait_is_longer_than_its_limit(
    server, make_flights, key
):
    server.client().lpush(f"headrace:cache:value:{key}:lock", "rubbish")
    flights = make_flights()
    started = time.monotonic()
    leader = leader_of(flights, key, wait_seconds=0.5)
    assert time.monotonic() - started < slack(0.5 + SLACK_SECONDS)
    leader.complete(make_entry())
    assert flights.try_begin(key) is None
