"""Whether a worker is alone on its node."""

from __future__ import annotations

import os
import time

import pytest
from gunicorn.config import Config

from node.worker import DrainingWorker


def worker(*, age: int, workers: int = 1) -> DrainingWorker:
    """Return one as gunicorn makes it; `age` counts the node's workers."""
    config = Config()
    config.set("workers", workers)
    return DrainingWorker(age, os.getpid(), [], None, 30, config, None)


def test_the_only_worker_is_alone() -> None:
    assert worker(age=1).is_alone


def test_workers_side_by_side_are_not() -> None:
    assert not worker(age=1, workers=2).is_alone


def test_a_successor_is_alone_once_the_one_before_must_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    successor = worker(age=2)
    assert not successor.is_alone

    later = time.monotonic() + successor.cfg.graceful_timeout
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert successor.is_alone
