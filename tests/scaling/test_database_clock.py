"""The shared clock follows the primary's, and no jump of the machine's own."""

from __future__ import annotations

import time

import pytest

from scaling.database_clock import SharedClock


def test_without_a_comparison_it_is_the_machines_time() -> None:
    assert abs(SharedClock().now() - time.time()) < 1


def test_a_jump_of_the_machines_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SharedClock()
    sent_at = time.monotonic()
    clock.compare(1_700_000_000.0, sent_at=sent_at, answered_at=sent_at)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= clock.now() - 1_700_000_000.0 < 1
    assert clock.datetime().year == 2023


def test_a_slow_answer_does_not_move_it_and_another_time_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    clock = SharedClock()
    clock.compare(1000.0, sent_at=0.0, answered_at=0.0)
    clock.compare(1001.4, sent_at=0.0, answered_at=2.0)
    assert clock.now() == 1000.0
    clock.compare(1600.0, sent_at=0.0, answered_at=0.002)
    assert clock.now() == pytest.approx(1600.0, abs=0.01)
