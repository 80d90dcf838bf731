"""The bodies of the jobs API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, field_validator

from chat.inputs.shared_schemas import Metadata, UsageBody
from config.api.validation import Integer, RequestModel
from jobs.models import DEFAULT_PRIORITY, MAX_ATTEMPTS_LIMIT, MAX_PRIORITY, Job
from jobs.notifications.addresses import check_webhook_url
from node.middleware import current_request_id


def _email(text: str) -> str:
    try:
        validate_email(text)
    except ValidationError as error:
        raise ValueError("must be an e-mail address") from error
    return text


Email = Annotated[str, Field(max_length=254), AfterValidator(_email)]
WebhookUrl = Annotated[str, Field(max_length=2000), AfterValidator(check_webhook_url)]


FIRST_YEAR, LAST_YEAR = 1970, 2200
OUT_OF_RANGE = f"must be a time of the years {FIRST_YEAR} to {LAST_YEAR}"


class JobOptions(RequestModel):
    """The options of a job, in addition to its chain and input."""

    webhook_url: WebhookUrl | None = None
    notify_email: Email | None = None
    metadata: Metadata = {}
    priority: Annotated[Integer, Field(ge=0, le=MAX_PRIORITY)] = DEFAULT_PRIORITY
    run_at: AwareDatetime | None = None
    timeout_seconds: Annotated[Integer, Field(ge=1, le=settings.JOB_MAX_TIMEOUT_SECONDS)] | None = (
        None
    )
    max_attempts: Annotated[Integer, Field(ge=1, le=MAX_ATTEMPTS_LIMIT)] | None = None

    @field_validator("run_at", mode="before")
    @classmethod
    def read_time(cls, value: Any) -> Any:
        """Read ISO 8601 with an offset; JSON has no times of its own."""
        if not isinstance(value, str):
            return value
        try:
            time = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("must be a time such as 2030-01-31T09:00:00Z") from error
        if time.tzinfo is None:
            return time
        # A time that PostgreSQL stores and Python cannot read would break the lists of all jobs.
        try:
            time = time.astimezone(UTC)
        except OverflowError as error:
            raise ValueError(OUT_OF_RANGE) from error
        if not FIRST_YEAR <= time.year <= LAST_YEAR:
            raise ValueError(OUT_OF_RANGE)
        return time


class JobCreate(JobOptions):
    """The JSON body of `POST /v1/jobs`; `input` is the chain's input."""

    chain: Annotated[str, Field(min_length=1, max_length=64)]
    input: Any


class ProgressBody(BaseModel):
    """A job's progress."""

    completed: int
    total: int
    message: str


class JobError(BaseModel):
    """Why a job failed, or why its last attempt did."""

    code: str
    message: str


class FileBody(BaseModel):
    """The document that a job was made of."""

    name: str
    bytes: int
    pages: int | None


class JobBody(BaseModel):
    """A job. Times are Unix seconds; `output` is null in lists."""

    id: str
    object: Literal["job"]
    chain: str
    status: Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
    created_at: int
    run_at: int | None
    started_at: int | None
    finished_at: int | None
    progress: ProgressBody | None
    output: Any
    error: JobError | None
    attempts: int
    max_attempts: int
    priority: int
    timeout_seconds: int
    metadata: dict[str, str]
    webhook_url: str | None
    notify_email: str | None
    file: FileBody | None
    usage: UsageBody | None


class JobList(BaseModel):
    """A page of jobs."""

    object: Literal["list"]
    data: list[JobBody]
    has_more: bool
    first_id: str | None
    last_id: str | None


def submission_options(options: JobOptions) -> dict[str, Any]:
    """Return a request's options as those of a Submission."""
    return {
        "metadata": options.metadata,
        "webhook_url": options.webhook_url or "",
        "notify_email": options.notify_email or "",
        "priority": options.priority,
        "run_at": options.run_at,
        "timeout_seconds": options.timeout_seconds,
        "max_attempts": options.max_attempts,
        "request_id": current_request_id.get(),
    }


def job_body(job: Job, *, with_output: bool = True) -> dict[str, Any]:
    """Return a Job as JobBody; its chain must be loaded."""
    return {
        "id": str(job),
        "object": "job",
        "chain": job.chain.slug,
        "status": shown_status(job),
        "created_at": int(job.created_at.timestamp()),
        "run_at": _seconds(job.run_at),
        "started_at": _seconds(job.started_at),
        "finished_at": _seconds(job.finished_at),
        "progress": _progress(job),
        "output": job.output if with_output else None,
        "error": {"code": job.error_code, "message": job.error_message} if job.error_code else None,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "priority": job.priority,
        "timeout_seconds": job.timeout_seconds,
        "metadata": job.metadata,
        "webhook_url": job.webhook_url or None,
        "notify_email": job.notify_email or None,
        "file": _file(job),
        "usage": usage_of(job),
    }


def listed_job_body(job: Job) -> dict[str, Any]:
    """Return a Job as a list shows it."""
    return job_body(job, with_output=False)


def shown_status(job: Job) -> str:
    """Return the status that clients see: `cancelling` is a running job to be cancelled."""
    if job.status == Job.Status.RUNNING and job.cancel_requested_at is not None:
        return "cancelling"
    return str(job.status)


def usage_of(job: Job) -> dict[str, int] | None:
    """Return a job's token counts."""
    if job.prompt_tokens is None or job.completion_tokens is None:
        return None
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.completion_tokens,
        "total_tokens": job.prompt_tokens + job.completion_tokens,
    }


def _progress(job: Job) -> dict[str, Any] | None:
    if job.progress_completed is None or job.progress_total is None:
        return None
    return {
        "completed": job.progress_completed,
        "total": job.progress_total,
        "message": job.progress_message,
    }


def _file(job: Job) -> dict[str, Any] | None:
    if not job.file_name or job.file_bytes is None:
        return None
    return {
        "name": job.file_name,
        "bytes": job.file_bytes,
        "pages": job.file_pages,
        "pages_incomplete": job.file_pages_incomplete,
    }


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())
