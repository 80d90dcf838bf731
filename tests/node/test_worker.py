"""A worker's settings, and whether it is alone on its node."""

from __future__ import annotations

import os
import runpy
import time
from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from node.worker import DrainingWorker, WorkerSettings
from tests.stack_plugin import BASE_DIR


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


def test_the_configuration_gives_a_new_worker_its_settings_and_changes_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRAIN_SECONDS", "7")
    monkeypatch.setenv("WEB_MAX_MEMORY_MB", "3")
    monkeypatch.setenv("DRAIN_FILE", "/run/drain")
    configuration = runpy.run_path(str(BASE_DIR / "config/gunicorn.conf.py"))
    first, second = worker(age=1), worker(age=2)

    configuration["pre_fork"](SimpleNamespace(WORKERS={11: first}), second)

    assert second.siblings == [11]
    assert second.settings.drain_seconds == 7
    assert second.settings.max_rss_bytes == 3 * 1024 * 1024
    assert str(second.settings.drain_file) == "/run/drain"
    assert first.settings == WorkerSettings()
    assert configuration["graceful_timeout"] > 7
