"""Renew the leases of this process's running requests."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from prometheus_client import Counter

from access.limits import shared
from scaling.redis_client import RedisUnavailable

if TYPE_CHECKING:
    from uuid import UUID

logger = logging.getLogger(__name__)

# A third of a lease: two renewals may fail before a running request loses its slot.
RENEW_EVERY_SECONDS = shared.LEASE_SECONDS / 3

RENEWAL_FAILURES = Counter(
    "headrace_limits_renewal_failures",
    "Rounds of renewing the leases of running requests that failed.",
)


class Holder(Protocol):
    """A running request that has a lease."""

    @property
    def key_id(self) -> UUID: ...


class LeaseKeeper:
    """Renews all held leases every few seconds, by one daemon thread a process.

    A process that is killed renews none, and its slots are free within `LEASE_SECONDS`. Holders
    are weak references: one that is collected without an end loses its lease the same way.
    The thread (a greenlet under gevent) starts with the first lease, also after a fork, and a
    forked child renews none of its parent's.
    """

    def __init__(self, *, every_seconds: float = RENEW_EVERY_SECONDS) -> None:
        self._every_seconds = every_seconds
        self._held: dict[str, weakref.ref[Holder]]
        self._start_lock: threading.Lock
        self._thread: threading.Thread | None
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def hold(self, lease: str, holder: Holder) -> None:
        """Renew this lease from now on."""
        self._held[lease] = weakref.ref(holder)
        if self._thread is None:
            with self._start_lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._renew_forever,
                        args=(self._held,),
                        name="lease-keeper",
                        daemon=True,
                    )
                    self._thread.start()

    def release(self, lease: str) -> None:
        """Stop renewing this lease."""
        self._held.pop(lease, None)

    def renew_once(self) -> str:
        """Renew all leases now; return a one-line summary."""
        leases_by_key: dict[UUID, list[str]] = {}
        for lease, reference in list(self._held.items()):
            holder = reference()
            if holder is None:
                self._held.pop(lease, None)
            else:
                leases_by_key.setdefault(holder.key_id, []).append(lease)
        if not leases_by_key:
            return "no leases to renew"
        try:
            shared.renew(leases_by_key)
        except RedisUnavailable as error:
            RENEWAL_FAILURES.inc()
            return f"could not renew: {error}"
        return f"renewed {sum(map(len, leases_by_key.values()))} leases"

    def _begin(self) -> None:
        self._held = {}
        self._start_lock = threading.Lock()
        self._thread = None

    def _renew_forever(self, held: dict[str, weakref.ref[Holder]]) -> None:
        # gevent copies greenlets into a forked child; this one ends there, its leases are gone.
        never = threading.Event()
        while held is self._held:
            never.wait(self._every_seconds)
            if held is not self._held:
                return
            try:
                self.renew_once()
            # The outermost frame of a thread, which must go on.
            except Exception:
                RENEWAL_FAILURES.inc()
                logger.exception("renewing leases failed")
