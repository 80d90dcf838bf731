"""The statements by which dispatchers share deliveries, exact under any number of dispatchers.

No function here creates a delivery: the statement that finishes jobs (jobs/queue/sql/finish.sql)
inserts one row for each receiver, in the transaction of the job's end.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.db import connection

from config.backoff import equal_jitter_seconds
from config.statements import read_statement
from jobs.models import Delivery
from jobs.notifications import mail
from jobs.notifications.outcomes import Outcome
from scaling.replicas.publishing import publish_position

# One account's due deliveries may fill the candidates; the next claim leaves that account out.
CANDIDATES_PER_CLAIM = 4
LEASE_MARGIN_SECONDS = 15.0

_SQL = Path(__file__).parent / "sql"
_IS_DUE = read_statement(_SQL / "is_due.sql")
CLAIM = read_statement(_SQL / "claim.sql", is_due=_IS_DUE)
FINISH = read_statement(_SQL / "finish.sql")
POSTPONE = read_statement(_SQL / "postpone.sql")
GIVE_UP = read_statement(_SQL / "give_up.sql", is_due=_IS_DUE)
RELEASE = read_statement(_SQL / "release.sql")


@dataclass(frozen=True, kw_only=True)
class ClaimedDelivery:
    """A delivery that this dispatcher has claimed, until the lease expires."""

    id: uuid.UUID
    lease: uuid.UUID
    account_id: uuid.UUID
    channel: str
    attempt: int


def claim(*, count: int, running: Mapping[uuid.UUID, int]) -> list[ClaimedDelivery]:
    """Claim at most `count` due deliveries, the longest due first.

    `running` has the number of each account's that are under way here; with those an account has at
    most NOTIFICATION_ACCOUNT_CONCURRENCY.
    """
    most = settings.NOTIFICATION_ACCOUNT_CONCURRENCY
    rows = _rows(
        CLAIM,
        {
            "full_accounts": [account for account, number in running.items() if number >= most],
            "running": orjson.dumps({str(a): n for a, n in running.items()}).decode(),
            "per_account_limit": most,
            "candidates": count * CANDIDATES_PER_CLAIM,
            "count": count,
            "webhook_seconds": lease_seconds(Delivery.Channel.WEBHOOK),
            "email_seconds": lease_seconds(Delivery.Channel.EMAIL),
        },
    )
    # A receiver may read the job at once. The worker that finished it may have died before it
    # recorded its write.
    publish_position({row[2].hex for row in rows})
    return [
        ClaimedDelivery(id=row[0], lease=row[1], account_id=row[2], channel=row[3], attempt=row[4])
        for row in rows
    ]


def lease_seconds(channel: str) -> float:
    """Return how long an attempt may take, with a margin for the database."""
    is_webhook = channel == Delivery.Channel.WEBHOOK
    longest: float = settings.WEBHOOK_TIMEOUT_SECONDS if is_webhook else mail.TOTAL_SECONDS
    return longest + LEASE_MARGIN_SECONDS


def finish(claimed: ClaimedDelivery, outcome: Outcome, *, duration_seconds: float) -> str | None:
    """Write an attempt's outcome; return the delivery's new status, None if the lease is lost."""
    rows = _rows(
        FINISH,
        {
            "id": claimed.id,
            "lease": claimed.lease,
            "is_delivered": outcome.is_delivered,
            "is_permanent": outcome.is_permanent,
            "status_code": outcome.status_code,
            "error": outcome.error,
            "duration": duration_seconds,
            "delay": 0.0 if outcome.is_delivered else _pause_seconds(claimed, outcome),
        },
    )
    return str(rows[0][0]) if rows else None


def postpone(claimed: ClaimedDelivery, *, seconds: float) -> str | None:
    """Release a delivery until about so long from now, counting no attempt; return as `finish`."""
    delay = random.uniform(seconds / 2, seconds)  # noqa: S311
    rows = _rows(POSTPONE, {"id": claimed.id, "lease": claimed.lease, "delay": delay})
    return str(rows[0][0]) if rows else None


def give_up() -> list[str]:
    """Give up deliveries that were attempted and are past `give_up_at`; return their channels."""
    return [row[0] for row in _rows(GIVE_UP, {})]


def release(leases: Collection[uuid.UUID]) -> None:
    """Release deliveries whose attempt was interrupted, for another dispatcher to claim at once."""
    with connection.cursor() as cursor:
        cursor.execute(RELEASE, {"leases": list(leases)})


def load(claimed: ClaimedDelivery) -> Delivery | None:
    """Return a delivery with its job and chain, without the job's input."""
    return (
        Delivery.objects.select_related("job__chain", "account")
        .defer("job__input", "job__request")
        .filter(pk=claimed.id)
        .first()
    )


def retry_delay_seconds(attempt: int) -> float:
    """Return the pause after the failed attempt of this number, with equal jitter."""
    return equal_jitter_seconds(
        attempt,
        base_seconds=settings.WEBHOOK_RETRY_BASE_SECONDS,
        max_seconds=settings.WEBHOOK_RETRY_MAX_SECONDS,
    )


def _pause_seconds(claimed: ClaimedDelivery, outcome: Outcome) -> float:
    """Return the pause before the next attempt, no shorter than the receiver wants it."""
    return max(retry_delay_seconds(claimed.attempt), outcome.retry_after_seconds)


def _rows(statement: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall())
