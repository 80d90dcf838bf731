"""Claim waiting jobs for a worker: one statement, exact under any number of claimers."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.db import connection

from jobs.queue.transitions import subject_of
from jobs.statements import read_statement
from scaling.replicas.position import Position
from scaling.replicas.routing import record
from scaling.response_cache.invalidation import hold

# Any constant of ours, for pg_advisory_xact_lock.
CLAIM_LOCK = 0x6865_6164_0001
# In-batch limits may pass over some candidates, so more are looked at than are wanted.
CANDIDATES_PER_CLAIM = 4
# A job that took two workers down runs beside no other such job, so that it cannot make innocent
# ones look guilty for ever.
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
class Claimed:
    """A job in this worker's hands; `lease` is the attempt's id."""

    job_id: uuid.UUID
    lease: uuid.UUID
    account_id: uuid.UUID
    api_key_id: uuid.UUID | None
    chain_slug: str
    input: Any
    # What the request asks of the model (chat.running.run.Run.options).
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
    # The log then had everything up to the claim.
    position: Position


def has_due() -> bool:
    """Return whether any job waits, be it one that limits keep from running; one query."""
    with connection.cursor() as cursor:
        cursor.execute(HAS_DUE)
        return bool(cursor.fetchone()[0])


def claim(
    *,
    worker_id: uuid.UUID,
    worker_name: str,
    count: int,
    resting_accounts: Collection[uuid.UUID] = (),
    most_of_account: int = UNLIMITED,
    takes_suspect: bool = True,
) -> list[Claimed]:
    """Take at most `count` due jobs: the accounts' turns in order, each account's best jobs.

    None of `resting_accounts`, at most `most_of_account` of any other, and within the limits of
    accounts and chains, which count the jobs of all workers. A worker whose lease has run out gets
    none. One round trip, and one to the store of kept reads.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            CLAIM,
            {
                "lock": CLAIM_LOCK,
                "suspect_losses": SUSPECT_LOSSES,
                "unlimited": UNLIMITED,
                "account_limit": settings.JOB_ACCOUNT_CONCURRENCY or None,
                "resting_accounts": list(resting_accounts),
                "candidates": count * CANDIDATES_PER_CLAIM,
                "most_of_account": most_of_account,
                "takes_suspect": takes_suspect,
                "count": count,
                "worker_id": worker_id,
                "worker_name": worker_name,
            },
        )
        cursor.nextset()
        rows = cursor.fetchall()
    hold([subject_of(row[0]) for row in rows])
    claimed = [_claimed(row) for row in rows]
    record({job.account_id.hex for job in claimed})
    return claimed


def _claimed(row: tuple[Any, ...]) -> Claimed:
    job_id, lease, account_id, key_id, slug, text, options = row[:7]
    attempt, most, timeout, losses, last_event, has_delivery, waited_seconds = row[7:14]
    tokens_per_day, is_waited_for = row[14:16]
    return Claimed(
        job_id=job_id,
        lease=lease,
        account_id=account_id,
        api_key_id=key_id,
        chain_slug=slug,
        input=orjson.loads(text),
        options=orjson.loads(options),
        attempt=attempt,
        max_attempts=most,
        timeout_seconds=timeout,
        # The claim itself was told as one event; any before it is of an earlier attempt.
        is_first=last_event == 1,
        is_suspect=losses >= SUSPECT_LOSSES,
        has_delivery=has_delivery,
        waited_seconds=waited_seconds,
        tokens_per_day=tokens_per_day,
        is_waited_for=is_waited_for,
        position=Position.from_row(row[16:]),
    )
