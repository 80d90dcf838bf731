"""Policies that want more of the embedded stack than it may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet.autoscale.actuators.embedded import Embedded
from fleet.autoscale.errors import ActuatorError
from fleet.autoscale.policies import WEB, WORKERS

if TYPE_CHECKING:
    from pytest_django import Settings


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int | None, int | None]]:
    """The arguments of `cluster scale`: nodes and workers."""
    calls = []

    def scale(layout: Any, *, nodes: int | None, workers: int | None, on_progress: Any) -> None:
        calls.append((nodes, workers))

    monkeypatch.setattr("fleet.autoscale.actuators.embedded.scale", scale)
    return calls


def test_a_stack_grows_as_far_as_it_may_and_the_rest_is_an_error(
    asked: list[tuple[int | None, int | None]], settings: Settings
) -> None:
    settings.MAX_NODES = 4
    with pytest.raises(ActuatorError, match=r"1 to 4 nodes \(MAX_NODES\)"):
        Embedded().scale({WEB: 5, WORKERS: 40})
    with pytest.raises(ActuatorError):
        Embedded().scale({WEB: 0})
    Embedded().scale({WEB: 4})
    Embedded().scale({WORKERS: 0})

    assert asked == [(4, 32), (1, None), (4, None), (None, 0)]
