"""Claim waiting jobs for a worker: one statement, exact under any number of claimers."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.db import connection

from jobs.queue.transitions import subject_of
from scaling.replicas.position import Position
from scaling.replicas.routing import publish_position
from scaling.response_cache.invalidation import invalidate

# Any constant of ours, for pg_advisory_xact_lock.
CLAIM_LOCK = 0x6865_6164_0001
# In-batch limits may pass over some candidates, so more are looked at than are wanted.
CANDIDATES_PER_CLAIM = 4
# A job that took two workers down runs beside no other such job, so that it cannot make innocent
# ones look guilty for ever.
SUSPECT_LOSSES = 2

# What may run now, of `j`.
ELIGIBLE = f"""j.status = 'queued' AND j.is_due
      AND j.account_id NOT IN (SELECT id FROM account_room WHERE room <= 0)
      AND j.chain_id NOT IN (SELECT id FROM chain_room WHERE room <= 0)
      AND NOT j.account_id = ANY(%(resting_accounts)s::uuid[])
      AND (j.losses < {SUSPECT_LOSSES} OR %(takes_suspect)s)"""
# The order of turns.
ORDER = "account_priority DESC, turn, turn_of"

# The first turns in order are found, then for each account with some the jobs that they are used
# for, the best by its own priorities. A job that was passed over gets the turn of the one that went
# before it, so that the account has used the turns that were its due and no others.
#
# Sent as one simple query: PostgreSQL runs both statements in one transaction of its own, so a
# claimer that is frozen in between holds no lock. The second statement's snapshot comes after the
# lock, so it counts what every other claimer has taken.
CLAIM = f"""
SELECT pg_advisory_xact_lock({CLAIM_LOCK});
WITH running_accounts AS (
    SELECT account_id, count(*) AS running FROM jobs_job WHERE status = 'running' GROUP BY 1
), running_chains AS (
    SELECT chain_id, count(*) AS running FROM jobs_job WHERE status = 'running' GROUP BY 1
), account_room AS (
    SELECT a.id, coalesce(nullif(a.max_running_jobs, 0), %(account_limit)s) - r.running AS room
    FROM running_accounts r JOIN access_account a ON a.id = r.account_id
), chain_room AS (
    SELECT c.id, nullif(c.max_running_jobs, 0) - r.running AS room
    FROM running_chains r JOIN chat_chain c ON c.id = r.chain_id
), first AS (
    SELECT id, account_id, account_priority, rank FROM jobs_job j WHERE {ELIGIBLE}
    ORDER BY account_priority DESC, rank, id
    LIMIT %(candidates)s
), turns AS (
    SELECT first.*, row_number() OVER (PARTITION BY account_id, account_priority
                                       ORDER BY rank, id) AS number
    FROM first
), accounts AS (
    SELECT account_id, account_priority, count(*) AS turns FROM first GROUP BY 1, 2
), candidates AS (
    SELECT best.*, turns.rank AS turn, turns.id AS turn_of
    FROM accounts
    CROSS JOIN LATERAL (
        SELECT one.*, row_number() OVER (ORDER BY one.priority DESC, one.id) AS number
        FROM (SELECT id, account_id, account_priority, chain_id, priority, rank,
                     losses >= {SUSPECT_LOSSES} AS is_suspect
              FROM jobs_job j
              WHERE {ELIGIBLE} AND j.account_id = accounts.account_id
                AND j.account_priority = accounts.account_priority
              ORDER BY priority DESC, id LIMIT accounts.turns) AS one
    ) AS best
    JOIN turns ON turns.account_id = best.account_id
        AND turns.account_priority = best.account_priority AND turns.number = best.number
), placed AS (
    SELECT c.*,
        row_number() OVER (PARTITION BY account_id ORDER BY {ORDER}) AS of_account,
        row_number() OVER (PARTITION BY chain_id ORDER BY {ORDER}) AS of_chain,
        row_number() OVER (PARTITION BY is_suspect ORDER BY {ORDER}) AS of_suspects
    FROM candidates c
), chosen AS (
    SELECT p.* FROM placed p
    JOIN access_account a ON a.id = p.account_id
    JOIN chat_chain ch ON ch.id = p.chain_id
    LEFT JOIN account_room ar ON ar.id = p.account_id
    LEFT JOIN chain_room cr ON cr.id = p.chain_id
    WHERE of_account <= coalesce(
            ar.room, nullif(a.max_running_jobs, 0), %(account_limit)s, {2**31 - 1})
      AND of_chain <= coalesce(cr.room, nullif(ch.max_running_jobs, 0), {2**31 - 1})
      AND of_account <= %(most_of_account)s
      AND (NOT is_suspect OR of_suspects = 1)
      AND EXISTS (SELECT 1 FROM jobs_worker w WHERE w.id = %(worker_id)s
                  AND w.state = 'ready' AND w.lease_until > now())
    ORDER BY {ORDER}
    LIMIT %(count)s
), claimed AS (
    UPDATE jobs_job j
    SET status = 'running', lease = gen_random_uuid(), worker_id = %(worker_id)s,
        attempts = j.attempts + 1, last_event = j.last_event + 1,
        started_at = coalesce(j.started_at, now()), rank = chosen.turn,
        progress_completed = NULL, progress_total = NULL, progress_message = ''
    FROM chosen
    WHERE j.id = chosen.id AND j.status = 'queued' AND j.is_due
    RETURNING j.*
), passed_over AS (
    SELECT turn_of AS id, account_id, account_priority,
           row_number() OVER (PARTITION BY account_id, account_priority ORDER BY turn, turn_of)
               AS number
    FROM chosen WHERE turn_of NOT IN (SELECT id FROM chosen)
), left_turns AS (
    SELECT account_id, account_priority, rank,
           row_number() OVER (PARTITION BY account_id, account_priority ORDER BY rank, id) AS number
    FROM chosen WHERE id NOT IN (SELECT turn_of FROM chosen)
), moved AS (
    UPDATE jobs_job j SET rank = left_turns.rank
    FROM passed_over JOIN left_turns USING (account_id, account_priority, number)
    WHERE j.id = passed_over.id AND j.status = 'queued'
), opened AS (
    INSERT INTO jobs_attempt (id, job_id, number, worker_id, worker_name, outcome,
                              error_code, error_message, traceback)
    SELECT lease, id, attempts, %(worker_id)s, %(worker_name)s, 'running', '', '', '' FROM claimed
), told AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT id, last_event, 'status',
           jsonb_build_object('status', 'running', 'attempt', attempts) FROM claimed
)
SELECT j.id, j.lease, j.account_id, j.api_key_id, c.slug, j.input::text,
       coalesce(j.request->'options', '{{}}')::text, j.attempts,
       j.max_attempts, j.timeout_seconds, j.losses, j.last_event,
       j.webhook_url <> '' OR j.notify_email <> '',
       greatest(0, extract(epoch FROM now() - greatest(j.created_at, j.run_at)))::float8,
       coalesce(k.tokens_per_day, 0),
       j.api = 'responses' AND NOT coalesce((j.request->>'background')::boolean, true),
       pg_current_wal_insert_lsn()::text, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
FROM claimed j JOIN chat_chain c ON c.id = j.chain_id
LEFT JOIN access_apikey k ON k.id = j.api_key_id
ORDER BY j.account_priority DESC, j.rank, j.id
"""


# One probe of an index; takes no lock, so that idle workers do not wait for each other.
HAS_DUE = "SELECT EXISTS (SELECT 1 FROM jobs_job WHERE status = 'queued' AND is_due)"


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
    # Whether its end is told by webhook or e-mail.
    has_notice: bool
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
    most_of_account: int = 2**31 - 1,
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
    invalidate([subject_of(row[0]) for row in rows])
    claimed = [_claimed(row) for row in rows]
    publish_position({job.account_id.hex for job in claimed})
    return claimed


def _claimed(row: tuple[Any, ...]) -> Claimed:
    job_id, lease, account_id, key_id, slug, text, options = row[:7]
    attempt, most, timeout, losses, last_event, has_notice, waited_seconds = row[7:14]
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
        has_notice=has_notice,
        waited_seconds=waited_seconds,
        tokens_per_day=tokens_per_day,
        is_waited_for=is_waited_for,
        position=Position.from_row(row[16:]),
    )
