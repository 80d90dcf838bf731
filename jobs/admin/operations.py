"""Operations of staff on a job, and their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from config.api.errors import ApiError
from jobs import services
from jobs.models import Delivery, Job
from jobs.notifications import services as notifications


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of an operation: a sentence, and whether it changed anything."""

    is_done: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A button and a list action; `past` follows the count of jobs in the action's message."""

    name: str
    label: str
    past: str
    hint: str
    statuses: tuple[str, ...]
    run: Callable[[Job], Result]


def retry(job: Job) -> Result:
    """Queue a failed or cancelled job again."""
    try:
        services.retry(job)
    except ApiError as error:
        return Result(is_done=False, text=error.message)
    return Result(is_done=True, text="Queued again, with all its attempts.")


def cancel(job: Job) -> Result:
    """Cancel a waiting job, or request it of a running one's worker."""
    try:
        # The caller's row may be old: a job that has finished since is not "cancelled" by us.
        before = services.reload(job)
        if before.is_over:
            return Result(is_done=False, text=f"The job had already ended: {before.status}.")
        after = services.request_cancel(before)
    except ApiError as error:
        return Result(is_done=False, text=error.message)
    if after.status == Job.Status.CANCELLED:
        return Result(is_done=True, text="Cancelled.")
    if after.is_over:
        return Result(is_done=False, text=f"The job had already ended: {after.status}.")
    if before.cancel_requested_at is not None:
        return Result(is_done=False, text="Its cancellation was already requested.")
    return Result(is_done=True, text="Cancellation was requested from its worker.")


def requeue(job: Job) -> Result:
    """Requeue a running job."""
    if services.requeue(job):
        return Result(is_done=True, text="Requeued; the attempt does not count.")
    return Result(is_done=False, text="The job is not running, so it cannot be requeued.")


def redeliver(delivery: Delivery) -> Result:
    """Send a delivery again, in any state."""
    try:
        notifications.redeliver(delivery)
    except ApiError as error:
        return Result(is_done=False, text=error.message)
    return Result(is_done=True, text="Queued for immediate delivery.")


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation(
            name="retry",
            label="Retry",
            past="queued again",
            hint="Queue it again with all its attempts; completed model calls are not repeated.",
            statuses=(Job.Status.FAILED, Job.Status.CANCELLED),
            run=retry,
        ),
        Operation(
            name="cancel",
            label="Cancel",
            past="cancelled, or their cancellation requested",
            hint="End it: at once if it waits, within seconds if it runs.",
            statuses=(Job.Status.QUEUED, Job.Status.RUNNING),
            run=cancel,
        ),
        Operation(
            name="requeue",
            label="Requeue",
            past="requeued",
            hint="Take it from its worker and queue it again; the attempt does not count.",
            statuses=(Job.Status.RUNNING,),
            run=requeue,
        ),
    )
}
