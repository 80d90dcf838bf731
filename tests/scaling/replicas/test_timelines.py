"""A server's timeline in its samples, over a restart."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import pytest

from scaling.replicas.position import Position
from scaling.replicas.sampling import Sampler


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Position]:
    """Return a function that samples a server with these answers."""
    sampler, connection = Sampler("r1"), Mock()
    monkeypatch.setattr(sampler, "connection", lambda: connection)

    def ask(*, timeline: int, started_at: str = "monday") -> Position:
        row = (True, started_at, "0/10", timeline, 3, 7, 1234, 1.7e9)
        connection.execute.return_value.fetchone.return_value = row
        return sampler.sample().position

    return ask


def test_a_replica_that_receives_nothing_stays_on_its_timeline(answer):
    assert answer(timeline=2) == Position(2, 16)
    # Its last restart point is from before the failover.
    assert answer(timeline=1) == Position(2, 16)
    assert answer(timeline=3) == Position(3, 16)


def test_a_replica_that_restarted_gets_a_new_timeline(answer):
    assert answer(timeline=2) == Position(2, 16)
    assert answer(timeline=1, started_at="tuesday") == Position(1, 16)
