"""Stored files that no job names are removed, and no others."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.documents.sweep import Sweep
from tests.support.rows import make_job

pytestmark = pytest.mark.django_db

Store = Callable[..., Path]


@pytest.fixture
def store(settings: Any, tmp_path: Path) -> Store:
    """Return a function that stores a file as it would have been so many hours ago."""
    settings.MEDIA_ROOT = tmp_path

    def store(name: str, *, hours: float, folder_hours: float | None = None) -> Path:
        made = datetime.now(UTC) - timedelta(hours=hours)
        day = datetime.now(UTC) - timedelta(hours=hours if folder_hours is None else folder_hours)
        path = tmp_path / f"jobs/{day:%Y/%m/%d}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%PDF-")
        os.utime(path, (made.timestamp(), made.timestamp()))
        return path

    return store


def orphan() -> str:
    return f"job_{uuid.uuid4().hex}.pdf"


def sweep_all() -> int:
    sweep = Sweep()
    return sum(sweep.step() for _ in range(10))


def test_a_file_without_a_job_is_removed_and_one_with_a_job_is_not(
    store: Store, tmp_path: Path
) -> None:
    lost, renamed = store(orphan(), hours=80), store(f"job_{uuid.uuid4().hex}_aB3.txt", hours=130)
    job = make_job("succeeded")
    good = store(f"{job}.pdf", hours=80)
    job.file.name = str(good.relative_to(tmp_path))
    job.save()
    foreign = store("backup.tar", hours=80)
    assert sweep_all() == 2
    assert [path.exists() for path in (lost, renamed, good, foreign)] == [False, False, True, True]


def test_a_file_whose_job_may_be_about_to_be_committed_stays(store: Store) -> None:
    fresh = store(orphan(), hours=0)
    # Copied here just now, from a backup, and its database may follow.
    copied = store(orphan(), hours=0, folder_hours=80)
    assert sweep_all() == 0
    assert fresh.exists()
    assert copied.exists()


def test_a_day_is_looked_at_once_it_is_over_and_once(store: Store, settings: Any) -> None:
    settings.JOB_FILE_ORPHAN_HOURS = 1
    sweep = Sweep()
    store(orphan(), hours=80)
    assert [sweep.step(), sweep.step()] == [1, 0]
    late = store(orphan(), hours=80)
    assert sweep.step() == 0
    assert late.exists()
    older = store(orphan(), hours=130)
    assert sweep.step() == 1
    assert not older.exists()


def test_zero_hours_is_never_and_a_storage_without_files_is_no_fault(
    store: Store, settings: Any
) -> None:
    assert sweep_all() == 0
    lost = store(orphan(), hours=80)
    settings.JOB_FILE_ORPHAN_HOURS = 0
    assert sweep_all() == 0
    assert lost.exists()


def test_what_is_no_day_is_passed_by(store: Store, tmp_path: Path) -> None:
    for folder in ("2020/13/45", "2020/x/01", "thumbnails"):
        (tmp_path / "jobs" / folder).mkdir(parents=True)
    (tmp_path / "jobs/2020/01/01").mkdir(parents=True)
    lost = store(orphan(), hours=80)
    assert sweep_all() == 1
    assert not lost.exists()
