"""Replay the first response to a repeated request (`Idempotency-Key`, as Stripe has it).

A key belongs to an account. The first request with it is processed, and its response is stored for
IDEMPOTENCY_HOURS. The same request again gets the same response; another request with the same key
gets 422; one that comes while the first is under way gets 409. Where the first is processed in one
transaction, the second waits for its end instead, and gets the response.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import Error, OperationalError, transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now
from psycopg.errors import LockNotAvailable
from psycopg_pool import PoolTimeout

from access.limits.stored import StoredLimit, refusal
from access.models import IdempotencyKey
from config.api.errors import ApiError, InvalidRequest
from config.api.ids import new_uuid
from scaling.connections import release_connections

logger = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotent-Replayed": "true"}
MAX_KEY_CHARS = 255
IN_USE_RETRY_SECONDS = 2.0
# The row that was in the way may be gone when it is read: its request has released it.
ROUNDS = 3
SETTING = "IDEMPOTENCY_ACCOUNT_MAX_KEYS"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The response to a request."""

    status: int
    body: Any
    headers: dict[str, str]


class Ticket:
    """The right to process the first request with a key; its holder must store or release it.

    Invariant: it changes the key's row only until another request has taken that over.
    """

    def __init__(self, row: IdempotencyKey) -> None:
        self._pk = row.pk
        self._token = row.token
        self.is_over = False

    def store(self, answer: Answer) -> bool:
        """Store the response for repeated requests; False if the lease was lost.

        In a transaction the response is stored with that, or not at all.
        """
        stored = self._own().update(
            is_done=True, status=answer.status, body=answer.body, headers=answer.headers
        )
        transaction.on_commit(self._end)
        return bool(stored)

    def release(self) -> None:
        """Free the key: the request failed, and another attempt may succeed.

        Does nothing once a response is stored. Never raises: the lease expires by itself.
        """
        if self.is_over:
            return
        self.is_over = True
        try:
            self._own().delete()
        except (Error, PoolTimeout):
            logger.exception("an idempotency key stays in use until its lease expires")
        finally:
            release_connections()

    def renew(self, seconds: float) -> bool:
        """Renew the lease of a request that is still under way; False if the lease was lost."""
        return bool(self._own().update(lease_until=_after(seconds)))

    def _own(self) -> QuerySet[IdempotencyKey]:
        return IdempotencyKey.objects.filter(pk=self._pk, token=self._token, is_done=False)

    def _end(self) -> None:
        self.is_over = True


def read_key(headers: Any) -> str | None:
    """Return a request's key, None when it has none; raises InvalidRequest."""
    key = headers.get(HEADER)
    if key is None:
        return None
    key = str(key).strip()
    if not key or len(key) > MAX_KEY_CHARS or not (key.isascii() and key.isprintable()):
        raise InvalidRequest(
            f"{HEADER} must have 1 to {MAX_KEY_CHARS} printable ASCII characters.",
            param=HEADER,
            code="invalid_idempotency_key",
        )
    return key


def fingerprint(*parts: bytes) -> str:
    """Return the digest of the parts that two equal requests have in common."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def begin(
    *, account_id: uuid.UUID, key: str, fingerprint: str, lease_seconds: float
) -> Ticket | Answer:
    """Return a ticket for the first request with a key, or the stored response.

    Raises InvalidRequest 422 for another request with the same key, ApiError 409 while the first
    is under way, StoredExceeded for one key too many. While the first is in a transaction, this
    waits for its end, but no longer than DATABASE_LOCK_TIMEOUT_SECONDS.
    """
    if STORED.is_full(account_id) and not _rows(account_id).filter(key=key).exists():
        raise refusal("idempotency_keys", setting=SETTING)
    row = IdempotencyKey(
        account_id=account_id,
        key=key,
        fingerprint=fingerprint,
        token=new_uuid(),
        lease_until=_after(lease_seconds),
    )
    try:
        found = _take(row)
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            raise _in_use() from error
        raise
    if found is None:
        raise _in_use()
    if found.token == row.token:
        return Ticket(found)
    if found.fingerprint != fingerprint:
        raise InvalidRequest(
            f"This {HEADER} was used for another request.",
            code="idempotency_key_reused",
            status=422,
        )
    if not found.is_done:
        raise _in_use()
    return Answer(status=found.status or 200, body=found.body, headers=found.headers)


def purge(*, batch: int) -> int:
    """Remove at most so many keys older than IDEMPOTENCY_HOURS; return how many.

    Those whose request is under way stay, however old.
    """
    ids = IdempotencyKey.objects.filter(_is_free(), _is_old()).order_by("created_at")
    # Checked again for each row: one may have been taken over since its id was read.
    rows = IdempotencyKey.objects.filter(_is_free(), _is_old(), pk__in=list(_pks(ids)[:batch]))
    return rows.delete()[0]


def _rows(account_id: uuid.UUID) -> QuerySet[IdempotencyKey]:
    return IdempotencyKey.objects.filter(account_id=account_id)


STORED = StoredLimit("idempotency_keys", setting=SETTING, rows=_rows)


def _take(row: IdempotencyKey) -> IdempotencyKey | None:
    """Return the key's row, with the token of `row` if that was free or new."""
    for _ in range(ROUNDS):
        with transaction.atomic():
            # Waits for a transaction that inserts the same key, and does nothing if that commits.
            IdempotencyKey.objects.bulk_create([row], ignore_conflicts=True)
            found = (
                IdempotencyKey.objects.select_for_update()
                .filter(account_id=row.account_id, key=row.key)
                .annotate(is_free=ExpressionWrapper(_is_free(), output_field=BooleanField()))
                .first()
            )
            if found is None:
                continue
            # The row is locked, so that of two requests that find it free only one takes it.
            if found.is_free and found.token != row.token:
                IdempotencyKey.objects.filter(pk=found.pk).update(
                    fingerprint=row.fingerprint,
                    token=row.token,
                    lease_until=row.lease_until,
                    is_done=False,
                    status=None,
                    body=None,
                    headers={},
                    created_at=Now(),
                )
                found.token = row.token
            return found
    return None


def _in_use() -> ApiError:
    return ApiError(
        409,
        f"A request with this {HEADER} is under way.",
        code="idempotency_key_in_use",
        retry_after_seconds=IN_USE_RETRY_SECONDS,
    )


def _after(seconds: float) -> Any:
    return Now() + timedelta(seconds=seconds)


def _is_free() -> Q:
    """Whether another request may take the key: it is too old, or its process is dead."""
    return Q(is_done=True) & _is_old() | Q(is_done=False, lease_until__lt=Now())


def _is_old() -> Q:
    return Q(created_at__lt=Now() - timedelta(hours=settings.IDEMPOTENCY_HOURS))


def _pks(rows: QuerySet[IdempotencyKey]) -> QuerySet[Any]:
    return rows.values_list("pk", flat=True)
