"""The log of a node that is out of rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import Client

from node.draining import DRAINING

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def drained() -> Iterator[None]:
    """Make this process a node that drains."""
    DRAINING.begin(0.0)
    yield
    DRAINING.cancel()


@pytest.mark.usefixtures("drained")
def test_checks_of_a_drained_node_are_no_errors(caplog: pytest.LogCaptureFixture) -> None:
    answer = Client().get("/health/ready", headers={"Host": "localhost"})

    assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
    assert caplog.records == []


def test_that_a_node_is_not_ready_otherwise_is_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.health.check_database", lambda: "unreachable")
    answer = Client().get("/health/ready", headers={"Host": "localhost"})

    assert answer.status_code == 503
    assert "Service Unavailable: /health/ready" in caplog.text
