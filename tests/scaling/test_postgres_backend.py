"""Connections: which are believed, and how many one greenlet holds."""

from __future__ import annotations

import pytest
from django.db import connections

from scaling.postgres_backend.base import Opened
from scaling.replicas.health import Sample
from scaling.replicas.position import Position


def sample(*, taken_at: float, lsn: int, started_at: str = "monday") -> Sample:
    return Sample(
        taken_at=taken_at, is_in_recovery=True, position=Position(1, lsn), started_at=started_at
    )


def test_a_connection_that_is_older_than_the_sample_is_of_the_same_run() -> None:
    assert Opened(1.0, "monday", 5).shows(sample(taken_at=2.0, lsn=9))


def test_a_newer_connection_must_have_found_as_much_as_the_sample() -> None:
    assert Opened(2.0, "monday", 9).shows(sample(taken_at=1.0, lsn=9))
    # One process of the server was killed in between: all began again, with the same start.
    assert not Opened(2.0, "monday", 8).shows(sample(taken_at=1.0, lsn=9))


def test_a_connection_to_another_start_of_the_server_shows_nothing() -> None:
    assert not Opened(2.0, "tuesday", 9).shows(sample(taken_at=1.0, lsn=9))
    assert not Opened(1.0, "monday", 9).shows(sample(taken_at=2.0, lsn=9, started_at="tuesday"))


@pytest.mark.django_db(transaction=True)
def test_nobody_holds_one_connection_while_waiting_for_another() -> None:
    first, second = (connections.create_connection("default") for _ in range(2))
    try:
        first.ensure_connection()
        second.ensure_connection()
        assert first.connection is None
        second.set_autocommit(False)
        second.in_atomic_block = True
        first.ensure_connection()
        # A transaction keeps its own.
        assert second.connection is not None
    finally:
        second.in_atomic_block = False
        first.close()
        second.close()
