"""Small pieces of the lists and pages: everything from outside goes through escaping."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobs.models import Job

SHORT_CHARS = 80


def short_id(public_id: str) -> SafeString:
    """Return an id cut in its middle, with the full one to hover over: columns are narrow."""
    return format_html(
        '<span class="job-id" title="{}">{}…{}</span>', public_id, public_id[:12], public_id[-6:]
    )


def badge(status: str, label: str = "") -> SafeString:
    """Return a status in its colour."""
    return format_html(
        '<span class="job-badge job-badge-{}">{}</span>', status, label or status.replace("_", " ")
    )


def job_badge(job: Job) -> SafeString:
    """Return a job's status; a waiting one may be scheduled, a running one be cancelling."""
    if job.status == Job.Status.QUEUED and not job.is_due:
        return badge("scheduled")
    if job.status == Job.Status.RUNNING and job.cancel_requested_at is not None:
        return badge("cancelling")
    return badge(job.status)


def progress(job: Job) -> SafeString | str:
    """Return a bar with the counts, or the counts alone while the total is unknown."""
    if job.progress_completed is None:
        return job.progress_message[:SHORT_CHARS] or "-"
    if not job.progress_total:
        return str(job.progress_completed)
    text = f"{job.progress_completed} of {job.progress_total}"
    return format_html(
        '<progress class="job-progress" value="{}" max="{}" title="{}">{}</progress> {}',
        min(job.progress_completed, job.progress_total),
        job.progress_total,
        job.progress_message,
        text,
        text,
    )


def span(length: timedelta) -> str:
    """Return a time's length in two units at most, as in 3 min 5 s."""
    seconds = length.total_seconds()
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(index for index, (count, _) in enumerate(units) if count)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count)


def age(moment: datetime | None) -> str:
    """Return how long ago a moment was."""
    return "-" if moment is None else span(timezone.now() - moment)


def duration(job: Job) -> SafeString | str:
    """Return the time from a job's first start to its end, or until now."""
    if job.started_at is None:
        return "-"
    length = span((job.finished_at or timezone.now()) - job.started_at)
    return format_html('<span class="job-span">{}</span>', length)


def shown_time(moment: datetime | None) -> SafeString | str:
    """Return a moment's age, with its date to hover over."""
    if moment is None:
        return "-"
    return format_html(
        '<time class="job-span" title="{}">{}</time>',
        moment.isoformat(timespec="seconds"),
        age(moment),
    )
