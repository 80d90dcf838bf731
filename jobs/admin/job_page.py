"""The content of a job's page, read with a fixed number of queries and cut to a readable size."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Func, IntegerField, Prefetch, TextField
from django.db.models.functions import Left, Length, Right
from django.utils.safestring import SafeString

from jobs.admin import cells
from jobs.models import Attempt, Delivery, DeliveryAttempt, Job

# Of each text. A page of megabytes would be of no use.
SHOWN_CHARS = 20_000
MAX_ATTEMPTS_SHOWN = 50
MAX_DELIVERIES_SHOWN = 20
DOCUMENTS = ("input", "output", "request", "metadata")


@dataclass(frozen=True, kw_only=True)
class Text:
    """The beginning of a text; `chars` is the length of all of it."""

    name: str
    shown: str
    chars: int

    @property
    def is_cut(self) -> bool:
        """Whether the text is longer than the part that is shown."""
        return self.chars > len(self.shown)


@dataclass(frozen=True, kw_only=True)
class JobPage:
    """A job with all that belongs to it; `attempts` and `deliveries` begin with the oldest."""

    job: Job
    attempts: Sequence[Attempt]
    deliveries: Sequence[Delivery]
    texts: Sequence[Text]

    @property
    def badge(self) -> SafeString:
        """The job's status in its colour."""
        return cells.job_badge(self.job)

    @property
    def progress(self) -> SafeString | str:
        """The job's progress as a bar."""
        return cells.progress(self.job)

    @property
    def duration(self) -> SafeString | str:
        """The time from its first start."""
        return cells.duration(self.job)

    @property
    def error(self) -> str:
        """The beginning of the error's message."""
        return self.job.error_message[:SHOWN_CHARS]


def read(pk: uuid.UUID) -> JobPage | None:
    """Return a job's page; None if it is gone. Five queries.

    PostgreSQL prints and cuts the documents, so that megabytes of them are not sent here.
    """
    rows = Job.objects.select_related("chain", "account", "api_key", "worker").defer(*DOCUMENTS)
    for name in DOCUMENTS:
        printed = Func(F(name), function="jsonb_pretty", output_field=TextField())
        rows = rows.annotate(
            **{
                f"_{name}": Left(printed, SHOWN_CHARS),
                f"_{name}_chars": Length(printed, output_field=IntegerField()),
            }
        )
    job = rows.filter(pk=pk).first()
    if job is None:
        return None
    return JobPage(
        job=job,
        attempts=_attempts(pk),
        deliveries=_deliveries(pk),
        texts=[text for name in DOCUMENTS if (text := _text(job, name)) is not None],
    )


def _text(job: Any, name: str) -> Text | None:
    shown, chars = getattr(job, f"_{name}"), getattr(job, f"_{name}_chars")
    # Only the Responses API stores a request, and few clients send metadata.
    is_empty = shown is not None and "".join(shown.split()) == "{}"
    if shown is None or (is_empty and name in ("request", "metadata")):
        return None
    return Text(name=name, shown=shown, chars=chars)


def _attempts(pk: uuid.UUID) -> Sequence[Attempt]:
    rows = Attempt.objects.filter(job=pk).order_by("-started_at", "-pk")
    # A traceback's end matters most, and the longest are those of deep recursions.
    rows = rows.defer("traceback", "error_message").annotate(
        error_shown=Left("error_message", SHOWN_CHARS),
        traceback_shown=Right("traceback", SHOWN_CHARS),
    )
    return list(rows[:MAX_ATTEMPTS_SHOWN])[::-1]


def _deliveries(pk: uuid.UUID) -> list[Delivery]:
    tries = DeliveryAttempt.objects.order_by("started_at", "pk")
    rows = Delivery.objects.filter(job=pk).order_by("-created_at", "-pk")
    return list(rows.prefetch_related(Prefetch("attempt_rows", tries))[:MAX_DELIVERIES_SHOWN])[::-1]
