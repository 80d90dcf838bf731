"""Remove originals without a job: their node was killed between the copy and the commit."""

from __future__ import annotations

import logging
import re
import uuid
from datetime import date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import gevent
from django.conf import settings

from jobs import metrics
from jobs.models import Job
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.replicas.read_context import primary

logger = logging.getLogger(__name__)

ROOT = "jobs"
# As Original names it; a storage may have put something before the suffix.
NAME = re.compile(r"job_([0-9a-f]{32})[._].*", re.ASCII)
BATCH = 200


class Sweep:
    """Goes over the directories of days, one at a step, the oldest first and each once.

    An original is saved into the directory of its day, so that of a day that is long over gets no
    more. The row of a file is committed within a minute of it; JOB_FILE_ORPHAN_HOURS is an hour at
    least. Any number of workers may sweep at once: a file is removed only while the primary has no
    job that names it.
    """

    def __init__(self) -> None:
        self._done: set[date] = set()

    def step(self) -> int:
        """Sweep the next directory; return how many files were removed."""
        hours = settings.JOB_FILE_ORPHAN_HOURS
        if not hours:
            return 0
        before = CLOCK.datetime() - timedelta(hours=hours)
        # The last moment of a day is the next one's first.
        over = [day for day in _in_thread(_days) if day < before.date() and day not in self._done]
        if not over:
            return 0
        day = min(over)
        paths = _in_thread(_files, day)
        removed = sum(
            _sweep(paths[start : start + BATCH], before) for start in range(0, len(paths), BATCH)
        )
        self._done.add(day)
        if removed:
            logger.warning("removed %d files of %s that no job names", removed, day)
            metrics.REAPED.labels("files").inc(removed)
        return removed


def _sweep(paths: list[str], before: datetime) -> int:
    ids = [uuid.UUID(match[1]) for path in paths if (match := NAME.fullmatch(_name(path)))]
    try:
        # A replica may not have a job yet.
        with primary():
            named = set(Job.objects.filter(pk__in=ids).values_list("file", flat=True))
    finally:
        release_connections()
    orphans = [path for path in paths if path not in named]
    return sum(_in_thread(_remove, path, before) for path in orphans)


def _remove(path: str, before: datetime) -> bool:
    storage = _storage()
    try:
        # A file that was restored lately may get its row with the restored database.
        if storage.get_modified_time(path) >= before:
            return False
    except FileNotFoundError:
        return False
    storage.delete(path)
    return True


def _files(day: date) -> list[str]:
    folder = f"{ROOT}/{day:%Y/%m/%d}"
    _, names = _storage().listdir(folder)
    return [f"{folder}/{name}" for name in names if NAME.fullmatch(name)]


def _days() -> list[date]:
    """Return the days that have a directory."""
    days = []
    for year in _folders(ROOT):
        for month in _folders(f"{ROOT}/{year}"):
            for day in _folders(f"{ROOT}/{year}/{month}"):
                try:
                    days.append(date(int(year), int(month), int(day)))
                # No directory of ours.
                except ValueError:
                    continue
    return days


def _folders(path: str) -> list[str]:
    try:
        return [name for name in _storage().listdir(path)[0] if name.isdecimal()]
    except FileNotFoundError:
        return []


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _storage() -> Any:
    return Job._meta.get_field("file").storage


def _in_thread(work: Any, *arguments: Any) -> Any:
    # A network file system or a large directory would stop the loop.
    return gevent.get_hub().threadpool.apply(work, arguments)
