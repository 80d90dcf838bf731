"""Jobs whose key has used the tokens of its day wait for the next, without losing an attempt."""

from __future__ import annotations

import random
from pathlib import Path

from django.conf import settings
from django.db import connection

from config.statements import read_statement
from jobs.queue.claims import ClaimedJob

_SQL = Path(__file__).parent / "sql"
WAITED_TOO_LONG = read_statement(_SQL / "waited_too_long.sql")


def may_be_deferred(claimed: ClaimedJob) -> bool:
    """Return whether a job may wait for tokens; False after JOB_TOKENS_WAIT_HOURS of it.

    Nor may a job whose client holds its request open. One query.
    """
    if claimed.is_waited_for:
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            WAITED_TOO_LONG,
            {"job_id": claimed.job_id, "hours": settings.JOB_TOKENS_WAIT_HOURS},
        )
        return not cursor.fetchone()[0]


def deferral_seconds(retry_after_seconds: float | None) -> float:
    """Return the limit's own pause with jitter, so that deferred jobs do not all start at once."""
    spread: float = 2 * settings.JOB_RETRY_BASE_SECONDS
    return (retry_after_seconds or 0.0) + random.uniform(0, spread)  # noqa: S311
