"""What was cleared, known to every process within POLL_SECONDS.

A mark is a number in the store that rises when something is cleared: all answers, a chain's or an
account's. The numbers are part of every answer's key, so what was stored before is not found again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid

from scaling.response_cache.store import ALL_MARK, StoreUnavailable, get_store

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25


class Marks:
    """A process's copy of the marks, read anew by one daemon thread (a greenlet under gevent).

    While the store is away the last copy stands: nothing can be cleared then either. A process that
    has none yet has a generation of its own, so that it finds nothing that was cleared before, and
    nobody finds what it keeps meanwhile.
    """

    def __init__(self) -> None:
        self._marks: dict[str, int]
        self._unknown: str
        self._thread: threading.Thread | None
        self._lock: threading.Lock
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def generation(self, *, chain: str, account: str) -> str:
        """Return what must be part of a key, so that clearing makes it another."""
        if self._thread is None:
            self._start()
        marks = self._marks
        if not marks:
            return self._unknown
        return f"{marks.get(ALL_MARK, 0)}.{marks.get(chain, 0)}.{marks.get(account, 0)}"

    def refresh(self) -> None:
        """Read the marks now."""
        try:
            self._marks = get_store().read_marks()
        except StoreUnavailable as error:
            logger.debug("the generations of the cache stay unchanged: %s", error)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self.refresh()
                self._thread = threading.Thread(target=self._watch, name="cache-marks", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        lock = self._lock
        while lock is self._lock:
            time.sleep(POLL_SECONDS)
            self.refresh()

    def _begin(self) -> None:
        self._marks = {}
        self._unknown = uuid.uuid4().hex
        self._thread = None
        self._lock = threading.Lock()


MARKS = Marks()


def chain_mark(slug: str) -> str:
    """Return the name of a chain's mark."""
    return f"chain:{slug}"


def account_mark(account_id: object) -> str:
    """Return the name of an account's mark."""
    return f"account:{account_id}"


def clear(name: str) -> None:
    """Make every answer unreachable that has this mark: `all`, a chain's or an account's.

    Raises StoreUnavailable. This process obeys at once, others within POLL_SECONDS.
    """
    get_store().bump_mark(name)
    MARKS.refresh()
