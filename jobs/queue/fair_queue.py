"""The order of waiting jobs: accounts take turns, and each account's own priorities rank its jobs.

A rank is a turn: the number of the round in which one of an account's jobs is served. A new job
adds a turn one round after the account's last, and an account with none joins the round that is
being served: start-time fair queueing (Goyal, Vin, Cheng 1996) with every job counted as one. Which
of its jobs an account's turn is used for is decided when it is claimed, by `priority` and age; then
the job that it was made for gets the turn of the one that went before it (jobs/queue/claims.py).
So a client's priority moves no other account's jobs.

What staff give an account, `Account.job_priority`, stands above: all jobs of a higher one go before
those of a lower one. A job has it as it was when the job came to wait.
"""

from __future__ import annotations

import uuid

from django.db.models import BigIntegerField, PositiveSmallIntegerField
from django.db.models.expressions import RawSQL

ACCOUNT_PRIORITY = "(SELECT a.job_priority FROM access_account a WHERE a.id = %s)"
# Two probes of indexes. Two submissions at once may get the same rank, which only ties them.
RANK = f"""
(SELECT greatest(
    (SELECT q.rank FROM jobs_job q WHERE q.status = 'queued' AND q.is_due
     AND q.account_priority = {ACCOUNT_PRIORITY} ORDER BY q.rank, q.id LIMIT 1),
    (SELECT q.rank + 1 FROM jobs_job q WHERE q.status = 'queued' AND q.is_due
     AND q.account_priority = {ACCOUNT_PRIORITY}
     AND q.account_id = %s ORDER BY q.rank DESC LIMIT 1),
    0))
"""  # noqa: S608  (constants alone)


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
