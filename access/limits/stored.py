"""Bounds on the rows of an account that no other limit bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import prometheus_client
from django.conf import settings
from django.db.models import Sum

from access.errors import STORED_CODES, StoredExceeded
from scaling.connections import release_connections
from scaling.loading_cache import LoadingCache

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from django.db.models import QuerySet

REFUSED = prometheus_client.Counter(
    "headrace_stored_refused",
    "Requests refused because their account stores as many of a kind as a setting allows.",
    ["kind"],
)
for _kind in STORED_CODES:
    REFUSED.labels(_kind)
# How stale a count may be; one of a million rows takes PostgreSQL some 0.1 s.
COUNT_SECONDS = 60.0
MAX_ACCOUNTS = 10_000


def refusal(kind: str, *, setting: str) -> StoredExceeded:
    """Count a refusal and return its error."""
    REFUSED.labels(kind).inc()
    return StoredExceeded(kind, allowed=int(getattr(settings, setting)), setting=setting)


class StoredLimit:
    """At most so many rows of a kind for each account: the number in `setting`, 0 is no limit.

    A process counts once in COUNT_SECONDS, and no more rows than the limit, by an index that
    begins with the account. So an account may exceed it by the rows that it adds in that time. With
    `column`, its sum is bounded and not the number of rows.
    """

    def __init__(
        self,
        kind: str,
        *,
        setting: str,
        rows: Callable[[uuid.UUID], QuerySet[Any]],
        column: str = "",
    ) -> None:
        self._kind = kind
        self._setting = setting
        self._rows = rows
        self._column = column
        self._counts: LoadingCache[uuid.UUID, int] = LoadingCache(
            load=self._count,
            ttl_seconds=COUNT_SECONDS,
            max_entries=MAX_ACCOUNTS,
            name=f"stored_{kind}",
            before_wait=release_connections,
        )

    def is_full(self, account_id: uuid.UUID) -> bool:
        """Return whether the account stores as many as it may."""
        limit = int(getattr(settings, self._setting))
        return limit > 0 and (self._counts.get(account_id) or 0) >= limit

    def check(self, account_id: uuid.UUID) -> None:
        """Raise StoredExceeded (429) where the account stores as many as it may."""
        if self.is_full(account_id):
            raise refusal(self._kind, setting=self._setting)

    def forget(self, account_id: uuid.UUID) -> None:
        """Drop the count of an account, for it has removed rows."""
        self._counts.drop(account_id)

    def reset(self) -> None:
        """Drop the counts of all accounts."""
        self._counts.clear()

    def _count(self, account_id: uuid.UUID) -> int:
        limit = int(getattr(settings, self._setting))
        rows = self._rows(account_id).order_by()
        try:
            if self._column:
                return int(rows.aggregate(sum=Sum(self._column))["sum"] or 0)
            return rows.values("pk")[:limit].count()
        finally:
            release_connections()
