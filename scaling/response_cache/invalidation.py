"""Versions of what kept reads are about, so that a read is never older than the last write.

Each subject, such as a job, may have a version in the store: a token that is never used again. A
read is kept together with the version that was there before the database was read, and given only
while that is the subject's version still. Before a write changes a subject, it puts HELD in the
version's place: from then on nobody finds a kept read, nor keeps one, until HOLD_SECONDS are over.

What that is worth, with T = READ_CACHE_SECONDS, the longest that a read is kept, counted from the
start of its look at the database:

- While writers reach the store, an answer that is begun after a write was committed shows it, on
  every node. A write that takes longer than HOLD_SECONDS holds again when it is over; then, and for
  a claim, which knows its jobs only afterwards, the moment from the commit to the hold is left.
- A writer that does not reach the store writes all the same. Then an answer may be older than the
  write by T at most. The process that found the store away gives and keeps nothing for T, so that
  it shows its own writes at once.
- A store that comes back empty has nothing old; one that comes back with what it had (thawed, cut
  off, failed over to a replica that lags) has nothing that is older than T.
- What has no subject's version raised, such as a job's progress, or what a worker's watchdog ends
  in its last moment, is shown after T at most.
"""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings

from scaling.response_cache.store import StoreUnavailable, get_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger(__name__)

HELD = b"held"
# Longer than a write takes; all the while its subject is read from the database.
HOLD_SECONDS = 5.0
# Reads whose version is gone are not found again, so that it must outlive them.
VERSION_SECONDS = 120.0
TOKEN_BYTES = 16


class Trust:
    """Whether this process may use kept reads: not for READ_CACHE_SECONDS after a failure."""

    def __init__(self) -> None:
        self._from = 0.0
        # Whether writers can reach the store at all.
        self.is_cut_off = False

    def lose(self) -> None:
        """Note that the store gave no answer."""
        self._from = time.monotonic() + settings.READ_CACHE_SECONDS

    def is_there(self) -> bool:
        """Say whether the last failure is long enough ago."""
        return time.monotonic() >= self._from


TRUST = Trust()


def version_key(subject: str) -> str:
    """Return the key of a subject's version; no chain's slug has a slash."""
    return f"/version:{subject}"


def stop_holding() -> None:
    """Have this process ask the store no more, as from a thread that its clients do not serve."""
    TRUST.is_cut_off = True


def new_version(subject: str) -> bytes | None:
    """Give a subject that has none a version; None if another was first.

    Raises StoreUnavailable.
    """
    token = uuid.uuid4().bytes
    is_ours = get_store().add(version_key(subject), token, VERSION_SECONDS)
    return token if is_ours else None


def hold(subjects: Sequence[str]) -> None:
    """Keep everybody from kept reads of these subjects for HOLD_SECONDS; raises nothing.

    One round trip, or none where no reads are kept.
    """
    is_needed = settings.CACHE_ENABLED and settings.READ_CACHE_SECONDS and subjects
    if TRUST.is_cut_off or not is_needed:
        return
    try:
        get_store().set_many([version_key(subject) for subject in subjects], HELD, HOLD_SECONDS)
    except StoreUnavailable as error:
        TRUST.lose()
        logger.debug("cached reads may be stale for a moment: %s", error)


@contextmanager
def changing(subjects: Sequence[str]) -> Iterator[None]:
    """Hold subjects while they are changed, and again if that took long."""
    hold(subjects)
    held_until = time.monotonic() + HOLD_SECONDS / 2
    try:
        yield
    finally:
        if time.monotonic() > held_until:
            hold(subjects)
