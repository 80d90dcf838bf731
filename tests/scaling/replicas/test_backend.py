"""Connections: which are believed, and how many one greenlet holds."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connections

from scaling.replicas.backend.base import ConnectionOrigin
from scaling.replicas.health import Sample
from scaling.replicas.position import Position


def sample(*, taken_at: float, lsn: int, started_at: str = "monday") -> Sample:
    return Sample(
        taken_at=taken_at, is_in_recovery=True, position=Position(1, lsn), started_at=started_at
    )


def test_a_connection_that_is_older_than_the_sample_is_of_the_same_run() -> None:
    assert ConnectionOrigin(1.0, "monday", 5).is_at_least(sample(taken_at=2.0, lsn=9))


def test_a_newer_connection_must_have_found_as_much_as_the_sample() -> None:
    assert ConnectionOrigin(2.0, "monday", 9).is_at_least(sample(taken_at=1.0, lsn=9))
    # One process of the server was killed in between: all began again, with the same start.
    assert not ConnectionOrigin(2.0, "monday", 8).is_at_least(sample(taken_at=1.0, lsn=9))


def test_a_connection_to_another_start_of_the_server_shows_nothing() -> None:
    assert not ConnectionOrigin(2.0, "tuesday", 9).is_at_least(sample(taken_at=1.0, lsn=9))
    assert not ConnectionOrigin(1.0, "monday", 9).is_at_least(
        sample(taken_at=2.0, lsn=9, started_at="tuesday")
    )


@pytest.mark.django_db(transaction=True)
def test_connections_that_the_server_has_closed_fail_no_request() -> None:
    wrappers = [connections.create_connection("default") for _ in range(4)]
    held = [_hold(wrapper) for wrapper in wrappers]
    for wrapper in wrappers:
        wrapper.in_atomic_block = False
        wrapper.close()
    with connections.create_connection("default").cursor() as cursor:
        # As a restart of the server would, all but the one that says so.
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY(%s)"
            " AND pid <> pg_backend_pid()",
            [held],
        )
    time.sleep(0.2)
    try:
        after = [_hold(wrapper) for wrapper in wrappers]
        assert len(set(after)) == 4
        assert len(set(after) & set(held)) <= 1
    finally:
        for wrapper in wrappers:
            wrapper.in_atomic_block = False
            wrapper.close()


def _hold(wrapper: Any) -> int:
    """Take a connection as a transaction does, and return the server's process for it."""
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        wrapper.in_atomic_block = True
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_no_greenlet_holds_one_connection_while_it_waits_for_another() -> None:
    first, second = (connections.create_connection("default") for _ in range(2))
    try:
        first.ensure_connection()
        second.ensure_connection()
        assert first.connection is None
        second.set_autocommit(False)
        second.in_atomic_block = True
        first.ensure_connection()
        # A transaction holds its own.
        assert second.connection is not None
    finally:
        second.in_atomic_block = False
        first.close()
        second.close()
