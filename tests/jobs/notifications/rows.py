"""Finished jobs and due deliveries of them, without a worker."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now
from django.utils import timezone

from access.models import Account
from chat.models import Chain
from jobs.models import Delivery, Job


def make_account() -> Account:
    """Return an account of its own."""
    return Account.objects.create(name=f"notices-{uuid.uuid4().hex}")


def make_job(account: Account | None = None, **fields: Any) -> Job:
    """Return a job that has succeeded."""
    chain, _ = Chain.objects.get_or_create(slug="notices", defaults={"runnable": "assistant"})
    values: dict[str, Any] = {
        "status": Job.Status.SUCCEEDED,
        "output": {"answer": 42},
        "finished_at": timezone.now(),
        "timeout_seconds": 60,
        "max_attempts": 1,
        "input": {"secret": "of the client"},
    }
    return Job.objects.create(
        account=account or make_account(), chain=chain, **{**values, **fields}
    )


def make_delivery(target: str, job: Job | None = None, **fields: Any) -> Delivery:
    """Return a delivery that is due."""
    job = job or make_job()
    values: dict[str, Any] = {
        "channel": Delivery.Channel.EMAIL if "@" in target else Delivery.Channel.WEBHOOK,
        "event_type": f"job.{job.status}",
        "give_up_at": Now() + timedelta(hours=1),
    }
    delivery = Delivery.objects.create(
        job=job, account_id=job.account_id, target=target, **{**values, **fields}
    )
    delivery.refresh_from_db()
    return delivery
