"""A replica that exists as a sample in memory alone, and reads."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from django.db import connection

from chat.models import Conversation
from scaling.replicas import read_context
from scaling.replicas.health import GOOD_SAMPLES, Sample
from scaling.replicas.last_writes import LAST_WRITES
from scaling.replicas.position import CURRENT_POSITION, Position
from scaling.replicas.router import Router
from scaling.replicas.topology import TOPOLOGY

FAR = Position(1, 2**63)


def set_replayed(name: str, replayed: Position) -> None:
    server = TOPOLOGY.replicas[name]
    server.take(Sample(taken_at=0, is_in_recovery=True, position=replayed, started_at=""))
    server.fault, server.good_samples = "", GOOD_SAMPLES


@pytest.fixture
def replica(transactional_db: None, settings: object) -> Iterator[Callable[[Position], None]]:
    """Add a replica "r1" that has replayed everything; return a setter of its position."""
    settings.HAS_REPLICAS = True  # type: ignore[attr-defined]
    # The emptying of the tables after another test is a shared write.
    read_context.deactivate()
    before = LAST_WRITES.trusted_from
    LAST_WRITES.trusted_from = 0.0
    TOPOLOGY.set_replicas(["r1"])
    set_replayed("r1", FAR)
    yield lambda position: set_replayed("r1", position)
    TOPOLOGY.set_replicas([])
    LAST_WRITES.trusted_from = before
    read_context.deactivate()


def become_another_node() -> None:
    """Drop what this process recorded: only Redis has it."""
    LAST_WRITES.reset()
    LAST_WRITES.trusted_from = 0.0


@pytest.fixture
def account() -> str:
    return uuid.uuid4().hex


def begin(
    account: str, *, reads_replicas: bool = True, min_position: Position | None = None
) -> None:
    read_context.start_request().bind_account(
        account, reads_replicas=reads_replicas, min_position=min_position
    )


def read(model: type = Conversation) -> str:
    return Router().db_for_read(model)


def now() -> Position:
    with connection.cursor() as cursor:
        cursor.execute(CURRENT_POSITION)
        return Position.from_row(cursor.fetchone())
