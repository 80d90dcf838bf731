"""Renew the leases of this process's running requests."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

from prometheus_client import Counter

from access.limits import shared
from config.background import BackgroundThread
from scaling.redis_client import RedisUnavailable

if TYPE_CHECKING:
    from uuid import UUID

# Two renewals may fail before a running request loses its slot.
RENEWALS_PER_LEASE = 3

RENEWAL_FAILURES = Counter(
    "headrace_limits_renewal_failures",
    "Rounds of renewing the leases of running requests that failed.",
)


class Holder(Protocol):
    """A running request that has a lease."""

    @property
    def key_id(self) -> UUID: ...


class LeaseKeeper(BackgroundThread):
    """Renews all held leases every few seconds.

    A process that is killed renews none, and its slots are free within `LEASE_SECONDS`. Holders
    are weak references: one that is collected without an end loses its lease the same way.
    The thread starts with the first lease, and a forked child renews none of its parent's.
    """

    name = "lease-keeper"

    def __init__(self, *, every_seconds: float | None = None) -> None:
        self._every_seconds = every_seconds
        super().__init__()

    def reset(self) -> None:
        """Renew no lease that is held now."""
        super().reset()
        self._held: dict[str, weakref.ref[Holder]] = {}

    @property
    def interval_seconds(self) -> float:
        """The time between two renewals."""
        return self._every_seconds or shared.LEASE_SECONDS / RENEWALS_PER_LEASE

    def hold(self, lease: str, holder: Holder) -> None:
        """Renew this lease from now on."""
        self._held[lease] = weakref.ref(holder)
        self.start()

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

    def tick(self) -> None:
        """Renew all leases."""
        self.renew_once()

    def count_failure(self) -> None:
        """Count a round that failed."""
        RENEWAL_FAILURES.inc()
