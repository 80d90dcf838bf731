"""The order of waiting jobs: by priority, and within one the accounts take turns.

A job's rank is the number of the round in which it is served. An account's next job comes one
round after its last waiting one, and an account with none joins the round that is being served:
start-time fair queueing (Goyal, Vin, Cheng 1996) with every job counted as one. So the next job is
the first entry of an index, however many wait.
"""

from __future__ import annotations

import uuid

from django.db.models import BigIntegerField
from django.db.models.expressions import RawSQL

# Two probes of indexes. Two submissions at once may get the same rank, which only ties them.
RANK = """
(SELECT greatest(
    (SELECT rank FROM jobs_job WHERE status = 'queued' AND is_due AND priority = %s
     ORDER BY rank, id LIMIT 1),
    (SELECT rank + 1 FROM jobs_job WHERE status = 'queued' AND is_due AND priority = %s
     AND account_id = %s ORDER BY rank DESC LIMIT 1),
    0))
"""


def next_rank(*, account_id: uuid.UUID, priority: int) -> RawSQL:
    """Return the expression for a new job's rank."""
    return RawSQL(  # noqa: S611 - a constant statement with parameters
        RANK, [priority, priority, account_id], output_field=BigIntegerField()
    )
