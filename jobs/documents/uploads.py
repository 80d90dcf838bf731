"""Bounds on the uploads under way and on their bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.conf import settings

from jobs.documents import metrics
from jobs.documents.errors import (
    AccountUploadsExceeded,
    DocumentTooLarge,
    UploadsBusy,
)


class Uploads:
    """The uploads under way in this process, and the bytes that are reserved for them.

    Invariant: the sum of their temporary files and fields never exceeds the reserved bytes.
    """

    def __init__(self) -> None:
        self._counts: Counter[UUID] = Counter()
        self._bytes: Counter[UUID] = Counter()

    @property
    def count(self) -> int:
        """The number of uploads."""
        return self._counts.total()

    @property
    def reserved_bytes(self) -> int:
        """The bytes that are reserved for them."""
        return self._bytes.total()

    @contextmanager
    def reserve(self, account_id: UUID, size: int) -> Iterator[None]:
        """Reserve `size` bytes for the block; raises AccountUploadsExceeded or UploadsBusy."""
        if (limit := self._account_limit(account_id, size)) is not None:
            metrics.UPLOADS_REFUSED.labels(limit).inc()
            raise AccountUploadsExceeded(limit)
        if (limit := self._node_limit(size)) is not None:
            metrics.UPLOADS_REFUSED.labels(limit).inc()
            raise UploadsBusy(limit)
        self._add(account_id, 1, size)
        try:
            yield
        finally:
            self._add(account_id, -1, -size)

    def _account_limit(self, account_id: UUID, size: int) -> str | None:
        if self._counts[account_id] >= settings.UPLOAD_ACCOUNT_CONCURRENCY:
            return "UPLOAD_ACCOUNT_CONCURRENCY"
        if self._bytes[account_id] + size > settings.UPLOAD_ACCOUNT_BYTES:
            return "UPLOAD_ACCOUNT_BYTES"
        return None

    def _node_limit(self, size: int) -> str | None:
        if self.count >= settings.UPLOAD_CONCURRENCY:
            return "UPLOAD_CONCURRENCY"
        if self.reserved_bytes + size > settings.UPLOAD_BYTES:
            return "UPLOAD_BYTES"
        return None

    def _add(self, account_id: UUID, count: int, size: int) -> None:
        self._counts[account_id] += count
        self._bytes[account_id] += size
        if not self._counts[account_id]:
            del self._counts[account_id], self._bytes[account_id]


UPLOADS = Uploads()
metrics.UPLOADS.set_function(lambda: UPLOADS.count)
metrics.UPLOAD_BYTES.set_function(lambda: UPLOADS.reserved_bytes)


def most_bytes(meta: Mapping[str, Any]) -> int:
    """Return how long a form may be: its declared length, or the maximum for one in chunks.

    Raises DocumentTooLarge, before any byte is read.
    """
    if "chunked" in meta.get("HTTP_TRANSFER_ENCODING", "").lower():
        return settings.MAX_UPLOAD_BYTES
    declared = int(meta.get("CONTENT_LENGTH") or 0)
    if declared > settings.MAX_UPLOAD_BYTES:
        raise DocumentTooLarge
    return declared
