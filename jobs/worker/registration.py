"""A worker's row: its lease on everything it runs, renewed by heartbeats."""

from __future__ import annotations

import os
import socket
import uuid
from datetime import timedelta

from django.conf import settings
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from config.version import VERSION
from jobs.models import Job, Worker


def _lease_end() -> Combinable:
    return Now() + timedelta(seconds=settings.JOB_LEASE_SECONDS)


def register() -> Worker:
    """Insert the row of this process, a worker that is ready."""
    return Worker.objects.create(
        name=settings.WORKER_NAME,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=VERSION,
        concurrency=settings.JOB_CONCURRENCY,
        lease_until=_lease_end(),
    )


def heartbeat(worker_id: uuid.UUID, *, running: int) -> bool:
    """Renew the lease; False if it had expired: a reaper requeues the jobs, or has done so."""
    return bool(
        Worker.objects.filter(pk=worker_id, lease_until__gt=Now())
        .exclude(state=Worker.State.GONE)
        .update(heartbeat_at=Now(), lease_until=_lease_end(), running=running)
    )


def held_leases(worker_id: uuid.UUID) -> dict[uuid.UUID, bool]:
    """Return the leases that this worker holds, and whether each job is to be cancelled."""
    rows = Job.objects.filter(worker=worker_id, status=Job.Status.RUNNING)
    return {
        lease: cancel_requested_at is not None
        for lease, cancel_requested_at in rows.values_list("lease", "cancel_requested_at")
        if lease
    }


def drain(worker_id: uuid.UUID) -> None:
    """Mark this worker as draining: it claims no more jobs."""
    Worker.objects.filter(pk=worker_id, state=Worker.State.READY).update(
        state=Worker.State.DRAINING
    )


def deregister(worker_id: uuid.UUID) -> None:
    """Mark this worker as gone, with nothing running."""
    Worker.objects.filter(pk=worker_id).update(state=Worker.State.GONE, ended_at=Now(), running=0)
