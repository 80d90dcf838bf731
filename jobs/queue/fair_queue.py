"""The order of waiting jobs: accounts take turns, and each account's own priorities rank its jobs.

A rank is a turn: the number of the round in which one of an account's jobs is served. A new job
adds a turn one round after the account's last, and an account with none joins the round that is
being served: start-time fair queueing (Goyal, Vin, Cheng 1996) with every job counted as one. Which
of its jobs an account's turn is used for is decided when it is claimed, by `priority` and age; then
the job that it was made for gets the turn of the one that went before it (jobs/queue/claims.py).
So a client's priority moves no other account's jobs.

The priority that staff set for an account, `Account.job_priority`, comes first: all jobs of a
higher one go before those of a lower one. A job has the value of the time when it began to wait.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from django.db.models import BigIntegerField, PositiveSmallIntegerField
from django.db.models.expressions import RawSQL

from config.statements import read_statement

_SQL = Path(__file__).parent / "sql"


def account_priority_sql(account: str) -> str:
    """Return the expression for the priority of an account, itself an expression."""
    return read_statement(_SQL / "account_priority.sql", account=account)


def rank_sql(account: str) -> str:
    """Return the expression for the rank of a job of an account that begins to wait now."""
    return read_statement(
        _SQL / "rank.sql", account=account, account_priority=account_priority_sql(account)
    )


ACCOUNT_PRIORITY = account_priority_sql("%s")
RANK = rank_sql("%s")


def next_rank(*, account_id: uuid.UUID) -> RawSQL:
    """Return the expression for a new job's rank."""
    return RawSQL(  # noqa: S611 - a constant statement with parameters
        RANK, [account_id] * 3, output_field=BigIntegerField()
    )


def account_priority(*, account_id: uuid.UUID) -> RawSQL:
    """Return the expression for a new job's `account_priority`."""
    return RawSQL(  # noqa: S611 - a constant statement with parameters
        ACCOUNT_PRIORITY, [account_id], output_field=PositiveSmallIntegerField()
    )
