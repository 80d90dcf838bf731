"""Operations of clients, staff and operators on jobs."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, JSONField, QuerySet, Value
from django.db.models.functions import Now

from access.limits.stored import StoredLimit
from access.principal import Principal
from chat.errors import ChainNotFound
from chat.inputs.errors import invalid_input
from chat.models import Chain
from config.api.errors import NotFound
from config.api.ids import from_public_id
from config.api.pagination import Cursor
from jobs import metrics
from jobs.documents.original import Original
from jobs.errors import AccountQueueFull, JobNotFound, JobNotRetryable, QueueFull
from jobs.models import DEFAULT_PRIORITY, Event, Job
from jobs.notifications.recipients import check_recipient
from jobs.queue import transitions
from jobs.queue.announcer import ANNOUNCER
from jobs.queue.fair_queue import account_priority, next_rank
from jobs.queue.transitions import Finish
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.loading_cache import LoadingCache
from scaling.replicas.publishing import publish_position
from scaling.replicas.read_context import primary
from scaling.response_cache.invalidation import invalidated_while

PREFIX = "job"
# How stale the count of a full queue may be; see docs/guides/jobs.md.
QUEUE_COUNT_SECONDS = 1.0
# Never sent to clients with a job: large, or for staff alone.
HEAVY = ("input", "request")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job to be submitted; None is the setting's default."""

    chain: str
    input: Any
    metadata: dict[str, str] = field(default_factory=dict)
    webhook_url: str = ""
    notify_email: str = ""
    priority: int = DEFAULT_PRIORITY
    run_at: datetime | None = None
    timeout_seconds: int | None = None
    max_attempts: int | None = None
    api: str = "jobs"
    request: dict[str, Any] = field(default_factory=dict)
    request_id: str = ""
    file: Original | None = None
    file_name: str = ""
    file_bytes: int | None = None
    file_pages: int | None = None
    file_pages_incomplete: int | None = None


def check(principal: Principal, submission: Submission) -> Chain:
    """Check that a submission can be a job now; return its chain, only with id and slug.

    Raises ChainNotFound, InvalidRequest for an input that the chain does not take,
    NotifyEmailNotAllowed, StoredExceeded, QueueFull and AccountQueueFull.
    """
    # LangChain takes half a second to import, and every command imports the admin and so this.
    from chat.chains.catalog import get_chain  # noqa: PLC0415
    from jobs.inputs import has_nul, read_input  # noqa: PLC0415

    if has_nul(submission.input):
        # PostgreSQL cannot store it.
        raise invalid_input("must not contain a NUL character.", param="input")
    try:
        chain = get_chain(submission.chain)
    except ChainNotFound as error:
        raise ChainNotFound(submission.chain, param="chain") from error
    check_recipient(principal, submission.notify_email)
    read_input(chain, submission.input)
    STORED.check(principal.account_id)
    if submission.file is not None:
        STORED_FILES.check(principal.account_id)
    refuse_if_full(principal.account_id)
    return Chain(pk=chain.config.chain_id, slug=chain.config.slug)


def refuse_if_full(account_id: uuid.UUID) -> None:
    """Raise QueueFull or AccountQueueFull (429) while as many jobs wait as may.

    That is JOB_QUEUE_MAX in all and JOB_ACCOUNT_QUEUE_MAX of the account.
    """
    if (ACCOUNT_QUEUE_LENGTH.get(account_id) or 0) >= settings.JOB_ACCOUNT_QUEUE_MAX:
        metrics.REFUSED.inc()
        raise AccountQueueFull(settings.JOB_ACCOUNT_QUEUE_MAX)
    if (QUEUE_LENGTH.get(None) or 0) >= settings.JOB_QUEUE_MAX:
        metrics.REFUSED.inc()
        raise QueueFull


def submit(principal: Principal, chain: Chain, submission: Submission) -> Job:
    """Commit a job that `check` has passed, and announce it.

    Announces once the transaction is committed, if there is one. The only query is the INSERT.
    """
    is_due = submission.run_at is None or submission.run_at <= CLOCK.datetime()
    job = Job(
        account_id=principal.account_id,
        api_key_id=principal.key_id,
        chain=chain,
        api=submission.api,
        request_id=submission.request_id,
        # JSON's null, where None would be SQL's.
        input=Value(None, JSONField()) if submission.input is None else submission.input,
        request=submission.request,
        metadata=submission.metadata,
        webhook_url=submission.webhook_url,
        notify_email=submission.notify_email,
        priority=submission.priority,
        is_due=is_due,
        run_at=submission.run_at,
        timeout_seconds=submission.timeout_seconds or settings.JOB_TIMEOUT_SECONDS,
        max_attempts=submission.max_attempts or settings.JOB_MAX_ATTEMPTS,
        created_at=CLOCK.datetime(),
        file_name=submission.file_name,
        file_bytes=submission.file_bytes,
        file_pages=submission.file_pages,
        file_pages_incomplete=submission.file_pages_incomplete,
    )
    if submission.file is not None:
        submission.file.save_for(job)
    job.account_priority = account_priority(account_id=principal.account_id)
    if is_due:
        job.rank = next_rank(account_id=principal.account_id)
    job.save(force_insert=True)
    metrics.SUBMITTED.labels(chain=chain.slug).inc()
    if is_due:
        announce_on_commit(job)
    return job


def announce_on_commit(job: Job) -> None:
    """Wake a worker once the job is there for it to see."""
    transaction.on_commit(partial(ANNOUNCER.announce, str(job)))


def get_job(*, account_id: uuid.UUID, public_id: str) -> Job:
    """Return an account's job with its chain; another's raises JobNotFound."""
    job = _owned(account_id).filter(pk=job_id_of(public_id)).first()
    if job is None:
        raise JobNotFound
    return job


def list_jobs(
    *, account_id: uuid.UUID, cursor: Cursor, status: str = "", chain: str = ""
) -> list[Job]:
    """Return a page of an account's jobs without their outputs, and one row more if there are."""
    rows = _owned(account_id).defer(*HEAVY, "output")
    if status:
        rows = rows.filter(status=status)
    if chain:
        rows = rows.filter(chain__slug=chain)
    if cursor.after:
        after = job_id_of(cursor.after)
        rows = rows.filter(pk__lt=after) if cursor.is_descending else rows.filter(pk__gt=after)
    return list(rows.order_by("-pk" if cursor.is_descending else "pk")[: cursor.limit + 1])


def request_cancel(job: Job) -> Job:
    """Cancel a waiting job now, request it of a running one's worker, leave a finished one.

    Returns the job as it is then. A running job is cancelled within two seconds by the worker that
    runs it; until then it is shown as cancelling.
    """
    with invalidated_while([transitions.subject_of(job.pk)]):
        Job.objects.filter(
            pk=job.pk, status__in=(Job.Status.QUEUED, Job.Status.RUNNING), cancel_requested_at=None
        ).update(cancel_requested_at=Now())
    if transitions.finish([Finish(job_id=job.pk, lease=None, status="cancelled")]):
        metrics.ENDED.labels(chain=job.chain.slug, outcome="cancelled").inc()
    else:
        # It may be by staff, whose requests are not the account's own.
        publish_position([job.account_id.hex])
    return reload(job)


def retry(job: Job) -> Job:
    """Queue a failed or cancelled job again, with all its attempts; raises JobNotRetryable (409).

    Model calls that were answered are not paid again.
    """
    with invalidated_while([transitions.subject_of(job.pk)]), transaction.atomic():
        changed = Job.objects.filter(
            pk=job.pk, status__in=(Job.Status.FAILED, Job.Status.CANCELLED)
        ).update(
            status=Job.Status.QUEUED,
            is_due=True,
            run_at=Now(),
            account_priority=account_priority(account_id=job.account_id),
            rank=next_rank(account_id=job.account_id),
            attempts=0,
            losses=0,
            cancel_requested_at=None,
            error_code="",
            error_message="",
            started_at=None,
            finished_at=None,
            last_event=F("last_event") + 1,
        )
        if changed:
            _add_queued_event(job.pk, "retry")
            publish_position([job.account_id.hex])
            announce_on_commit(job)
    job = reload(job)
    if not changed:
        raise JobNotRetryable(job.status)
    return job


def requeue(job: Job) -> bool:
    """Requeue a running job; False if it is not running.

    For staff: the attempt does not count, and its result, if it still comes, is dropped.
    """
    current = Job.objects.only("lease").filter(pk=job.pk, status=Job.Status.RUNNING).first()
    if current is None or current.lease is None:
        return False
    done = transitions.release(
        job_id=job.pk, lease=current.lease, outcome="released", is_counted=False
    )
    if done:
        announce_on_commit(job)
    return done


def reload(job: Job) -> Job:
    """Return the job as it is now, with its chain; raises JobNotFound if it was removed."""
    with primary():
        found = Job.objects.select_related("chain").defer(*HEAVY).filter(pk=job.pk).first()
    if found is None:
        raise JobNotFound
    if found.is_over:
        # A client that gets this state may read the job at once, on any node.
        publish_position([found.account_id.hex])
    return found


def job_id_of(public_id: str) -> uuid.UUID:
    """Return the UUID in a public id; raises JobNotFound."""
    try:
        return from_public_id(PREFIX, public_id)
    except NotFound as error:
        raise JobNotFound from error


def _owned(account_id: uuid.UUID) -> QuerySet[Job]:
    return Job.objects.filter(account_id=account_id).select_related("chain").defer(*HEAVY)


def _add_queued_event(job_id: uuid.UUID, reason: str) -> None:
    last_event = Job.objects.values_list("last_event", flat=True).get(pk=job_id)
    Event.objects.create(
        job_id=job_id,
        seq=last_event,
        kind=Event.Kind.STATUS,
        data={"status": "queued", "reason": reason},
    )


def _count(query: str, params: list[Any]) -> int:
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, params)
            return int(cursor.fetchone()[0])
    finally:
        release_connections()


def _count_queue(_: None) -> int:
    return _count(
        "SELECT count(*) FROM (SELECT 1 FROM jobs_job WHERE status = 'queued' LIMIT %s) AS q",
        [settings.JOB_QUEUE_MAX],
    )


def _count_account_queue(account_id: uuid.UUID) -> int:
    return _count(
        "SELECT count(*) FROM (SELECT 1 FROM jobs_job WHERE status = 'queued' AND account_id = %s"
        " LIMIT %s) AS q",
        [account_id, settings.JOB_ACCOUNT_QUEUE_MAX],
    )


STORED = StoredLimit(
    "jobs",
    setting="JOB_ACCOUNT_MAX",
    rows=lambda account_id: Job.objects.filter(account_id=account_id),
)
STORED_FILES = StoredLimit(
    "file_bytes",
    setting="JOB_ACCOUNT_FILE_BYTES",
    rows=lambda account_id: Job.objects.filter(account_id=account_id, file_bytes__isnull=False),
    column="file_bytes",
)
QUEUE_LENGTH: LoadingCache[None, int] = LoadingCache(
    load=_count_queue,
    ttl_seconds=QUEUE_COUNT_SECONDS,
    max_entries=1,
    name="queue_length",
    before_wait=release_connections,
)
ACCOUNT_QUEUE_LENGTH: LoadingCache[uuid.UUID, int] = LoadingCache(
    load=_count_account_queue,
    ttl_seconds=QUEUE_COUNT_SECONDS,
    max_entries=10_000,
    name="account_queue_length",
    before_wait=release_connections,
)
