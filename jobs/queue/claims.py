"""Claim waiting jobs for a worker: one statement, exact under any number of claimers."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from config import exact_json
from config.statements import read_statement
from jobs.queue.transitions import subject_of
from scaling.replicas.position import Position
from scaling.replicas.publishing import publish_position
from scaling.response_cache.invalidation import invalidate

# For pg_advisory_xact_lock; any constant that is used for nothing else.
CLAIM_LOCK = 0x6865_6164_0001
# In-batch limits may pass over some candidates, so more are read than are wanted.
CANDIDATES_PER_CLAIM = 4
# Of jobs that two workers were lost with, one runs at a time in a worker, so that it cannot make
# innocent ones look like the culprit for ever.
SUSPECT_LOSSES = 2

UNLIMITED = 2**31 - 1

_SQL = Path(__file__).parent / "sql"
CLAIM = read_statement(
    _SQL / "claim.sql",
    eligible=read_statement(_SQL / "eligible.sql"),
    turn_order=read_statement(_SQL / "turn_order.sql"),
)
HAS_DUE = read_statement(_SQL / "has_due.sql")


@dataclass(frozen=True, kw_only=True)
class ClaimedJob:
    """A job that this worker has claimed; `lease` is the attempt's id."""

    job_id: uuid.UUID
    lease: uuid.UUID
    account_id: uuid.UUID
    api_key_id: uuid.UUID | None
    chain_slug: str
    input: Any
    # Of its JSON text.
    input_bytes: int
    # The request's parameters of the model (chat.running.run.Run.options).
    options: dict[str, Any]
    attempt: int
    max_attempts: int
    timeout_seconds: int
    is_first: bool
    is_suspect: bool
    # Whether its end is sent by webhook or e-mail.
    has_delivery: bool
    waited_seconds: float
    # The key's, 0 for no limit.
    tokens_per_day: int
    # By a client that holds its request open, and cannot wait for another day.
    is_waited_for: bool
    # Of the write-ahead log after the claim.
    position: Position


def has_due() -> bool:
    """Return whether any job waits and is due, even if limits exclude it; one query."""
    with connection.cursor() as cursor:
        cursor.execute(HAS_DUE)
        return bool(cursor.fetchone()[0])


def claim(
    *,
    worker_id: uuid.UUID,
    worker_name: str,
    count: int,
    excluded_accounts: Collection[uuid.UUID] = (),
    per_account_limit: int = UNLIMITED,
    allow_suspect: bool = True,
) -> list[ClaimedJob]:
    """Claim at most `count` due jobs: the accounts' turns in order, each account's best jobs.

    None of `excluded_accounts`, at most `per_account_limit` of any other, and within the limits of
    accounts and chains, which count the jobs of all workers. A worker whose lease has expired gets
    none. One round trip, and one to the store of cached reads.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            CLAIM,
            {
                "lock": CLAIM_LOCK,
                "suspect_losses": SUSPECT_LOSSES,
                "unlimited": UNLIMITED,
                "account_limit": settings.JOB_ACCOUNT_CONCURRENCY or None,
                "excluded_accounts": list(excluded_accounts),
                "candidates": count * CANDIDATES_PER_CLAIM,
                "per_account_limit": per_account_limit,
                "allow_suspect": allow_suspect,
                "count": count,
                "worker_id": worker_id,
                "worker_name": worker_name,
            },
        )
        cursor.nextset()
        rows = cursor.fetchall()
    invalidate([subject_of(row[0]) for row in rows])
    claimed = [_claimed(row) for row in rows]
    publish_position({job.account_id.hex for job in claimed})
    return claimed


def _claimed(row: tuple[Any, ...]) -> ClaimedJob:
    job_id, lease, account_id, key_id, slug, text, options = row[:7]
    attempt, most, timeout, losses, last_event, has_delivery, waited_seconds = row[7:14]
    tokens_per_day, is_waited_for = row[14:16]
    return ClaimedJob(
        job_id=job_id,
        lease=lease,
        account_id=account_id,
        api_key_id=key_id,
        chain_slug=slug,
        input=exact_json.loads(text),
        input_bytes=len(text),
        options=exact_json.loads(options),
        attempt=attempt,
        max_attempts=most,
        timeout_seconds=timeout,
        # The claim wrote one event; any before it is of an earlier attempt.
        is_first=last_event == 1,
        is_suspect=losses >= SUSPECT_LOSSES,
        has_delivery=has_delivery,
        waited_seconds=waited_seconds,
        tokens_per_day=tokens_per_day,
        is_waited_for=is_waited_for,
        position=Position.from_row(row[16:]),
    )
