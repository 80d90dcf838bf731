"""Rows of jobs in any state, for pages and numbers that only read them."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from access.models import Account
from chat.models import Chain
from jobs.models import Attempt, Job, Worker


def make_worker(**fields: Any) -> Worker:
    """Return a living worker."""
    lease_until = timezone.now() + timedelta(minutes=1)
    values = {"name": "worker", "host": "host", "pid": 7, "version": "1", "concurrency": 8}
    return Worker.objects.create(**{**values, "lease_until": lease_until, **fields})


def make_job(status: str = "queued", *, chain: str = "helper", **fields: Any) -> Job:
    """Return a job; one that runs has an attempt, one that is over has ended now."""
    now = timezone.now()
    values: dict[str, Any] = {
        "status": status,
        "input": {"input": "Hello"},
        "timeout_seconds": 60,
        "max_attempts": 3,
    }
    if status != "queued":
        values |= {"attempts": 1, "started_at": now - timedelta(seconds=90)}
    if status == "running":
        values |= {"lease": uuid.uuid4(), "worker": fields.get("worker") or make_worker()}
    if status in Job.ENDS:
        values["finished_at"] = now
    if "account" not in fields:
        fields["account"], _ = Account.objects.get_or_create(name="acme")
    row, _ = Chain.objects.get_or_create(slug=chain, defaults={"runnable": "assistant"})
    job = Job.objects.create(chain=row, **{**values, **fields})
    if status == "running":
        make_attempt(job, id=job.lease, worker=job.worker)
    return job


def make_attempt(job: Job, **fields: Any) -> Attempt:
    """Return an attempt at a job."""
    values = {"number": job.attempts, "worker_name": "worker"}
    return Attempt.objects.create(job=job, **{**values, **fields})


def minutes_ago(count: float) -> datetime:
    """Return a moment in the past."""
    return timezone.now() - timedelta(minutes=count)
