"""Throughput of the last hour by the minute, dead letters, and deliveries that were given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.db import connection
from django.db.models import F, Q
from django.utils import timezone

from config.statements import read_statement
from jobs.models import Delivery, Job

MAX_LETTERS = 50
# Beyond this the hour is cut short, so that the query is quick.
MAX_ENDED = 100_000
MINUTES = 60

_SQL = Path(__file__).parent / "sql"
ENDED = read_statement(_SQL / "throughput.sql")


@dataclass(frozen=True, kw_only=True)
class Minute:
    """Jobs that ended in the minute that begins at `start`."""

    start: datetime
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.succeeded + self.failed + self.cancelled


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """The last hour. `cut_at`: jobs that ended before it are left out, as there are too many."""

    minutes: Sequence[Minute]
    cut_at: datetime | None


def read_throughput(*, now: datetime | None = None) -> Throughput:
    """Return the jobs that ended in each of the last MINUTES, this one being the last."""
    this_minute = (now or timezone.now()).replace(second=0, microsecond=0)
    first = this_minute - timedelta(minutes=MINUTES - 1)
    counts: dict[datetime, dict[str, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(ENDED, [first, MAX_ENDED])
        rows = cursor.fetchall()
    for start, status, count, _ in rows:
        counts.setdefault(start, {})[status] = count
    starts = [first + timedelta(minutes=number) for number in range(MINUTES)]
    is_cut = sum(row[2] for row in rows) >= MAX_ENDED
    return Throughput(
        minutes=[Minute(start=start, **counts.get(start, {})) for start in starts],
        cut_at=min(row[3] for row in rows) if is_cut else None,
    )


def list_dead_letters(*, now: datetime | None = None) -> list[Job]:
    """Return a day's last jobs that failed after all their attempts, or by their workers' deaths.

    Without inputs and outputs.
    """
    since = (now or timezone.now()) - timedelta(days=1)
    return list(
        Job.objects.filter(status=Job.Status.FAILED, finished_at__gte=since)
        .filter(Q(attempts__gte=F("max_attempts")) | Q(error_code="worker_lost"))
        .select_related("chain", "account")
        .only(
            "chain__slug", "account__name", "status", "attempts", "max_attempts", "losses",
            "error_code", "error_message", "finished_at",
        )
        .order_by("-finished_at")[:MAX_LETTERS]
    )  # fmt: skip


def list_given_up() -> list[Delivery]:
    """Return the deliveries that were given up, those of the newest jobs first."""
    rows = Delivery.objects.filter(status=Delivery.Status.GIVEN_UP).select_related("account")
    return list(rows.order_by("-job_id", "-pk")[:MAX_LETTERS])
