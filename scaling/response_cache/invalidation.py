"""Invalidate cached reads by the versions of their subjects, so that none is older than a write.

Each subject, such as a job, may have a version in the store: a token that is never used again. A
read is cached together with the version that was there before the database was read, and served
only while that is still the subject's version. Before a write changes a subject, it replaces the
version by INVALIDATING: from then on no cached read is found, and none is stored, until
INVALIDATION_SECONDS are over.

The guarantee, with T = READ_CACHE_SECONDS, the longest lifetime of a cached read, counted from the
start of its query:

- While writers reach the store, an answer that begins after a write was committed shows it, on
  every node. A write that takes longer than INVALIDATION_SECONDS invalidates again when it ends;
  then, and for a claim, which has its jobs only afterwards, the moment from the commit to the
  invalidation is left.
- A writer that does not reach the store writes all the same. Then an answer may be older than the
  write by T at most. The process that found the store unavailable serves and stores no cached read
  for T, so that it shows its own writes at once.
- A store that comes back empty has nothing old; one that comes back with what it had (thawed, cut
  off, failed over to a replica that lags) has nothing that is older than T.
- A change that raises no subject's version, such as a job's progress, or an attempt that a worker's
  watchdog ends in its last moment, is shown after T at most.
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

INVALIDATING = b"held"
# Longer than a write takes; its subject is read from the database for so long.
INVALIDATION_SECONDS = 5.0
# Reads whose version is gone are not found again, so that it must outlive them.
VERSION_SECONDS = 120.0
TOKEN_BYTES = 16


class Trust:
    """Whether this process may use cached reads: not for READ_CACHE_SECONDS after a failure."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Trust the store, as a new process does."""
        self._from = 0.0
        # Whether writers can reach the store at all.
        self.is_cut_off = False

    def distrust(self) -> None:
        """Use no cached read for READ_CACHE_SECONDS, because the store did not answer."""
        self._from = time.monotonic() + settings.READ_CACHE_SECONDS

    def is_trusted(self) -> bool:
        """Return whether the last failure was long enough ago."""
        return time.monotonic() >= self._from


TRUST = Trust()


def version_key(subject: str) -> str:
    """Return the key of a subject's version; no chain's slug has a slash."""
    return f"/version:{subject}"


def stop_invalidating() -> None:
    """Stop calling the store in this process, as from a thread that its clients cannot serve."""
    TRUST.is_cut_off = True


def new_version(subject: str) -> bytes | None:
    """Return a new version of a subject that has none; None if another writer was first.

    Raises StoreUnavailable.
    """
    token = uuid.uuid4().bytes
    is_ours = get_store().add(version_key(subject), token, VERSION_SECONDS)
    return token if is_ours else None


def invalidate(subjects: Sequence[str]) -> None:
    """Invalidate cached reads of these subjects for INVALIDATION_SECONDS. Never raises.

    One round trip, or none where no reads are cached.
    """
    is_needed = settings.CACHE_ENABLED and settings.READ_CACHE_SECONDS and subjects
    if TRUST.is_cut_off or not is_needed:
        return
    try:
        get_store().set_many(
            [version_key(subject) for subject in subjects], INVALIDATING, INVALIDATION_SECONDS
        )
    except StoreUnavailable as error:
        TRUST.distrust()
        logger.debug("cached reads may be stale for a moment: %s", error)


@contextmanager
def invalidated_while(subjects: Sequence[str]) -> Iterator[None]:
    """Invalidate subjects before they are changed, and again after a long change."""
    invalidate(subjects)
    repeat_after = time.monotonic() + INVALIDATION_SECONDS / 2
    try:
        yield
    finally:
        if time.monotonic() > repeat_after:
            invalidate(subjects)
