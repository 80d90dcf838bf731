"""Errors of a job, before it is accepted and while it runs."""

from __future__ import annotations

from config.api.errors import ApiError


class JobNotFound(ApiError):
    """There is no such job, or it is another account's."""

    def __init__(self) -> None:
        super().__init__(404, "There is no such job.", code="job_not_found")


class QueueFull(ApiError):
    """As many jobs wait as JOB_QUEUE_MAX allows."""

    def __init__(self) -> None:
        super().__init__(
            429,
            "Too many jobs are waiting; try again shortly.",
            code="queue_full",
            retry_after_seconds=10,
        )


class AccountQueueFull(ApiError):
    """As many jobs of the account wait as JOB_ACCOUNT_QUEUE_MAX allows."""

    def __init__(self, allowed: int) -> None:
        super().__init__(
            429,
            f"This account has {allowed} jobs waiting, the maximum (JOB_ACCOUNT_QUEUE_MAX).",
            code="account_queue_full",
            retry_after_seconds=10,
        )


class NotifyEmailNotAllowed(ApiError):
    """A client that may post jobs must not make the service write to arbitrary addresses."""

    def __init__(self) -> None:
        super().__init__(
            403,
            "This account's jobs may not send e-mail to this address; staff may allow it, or"
            " its domain (NOTIFY_EMAIL_ALLOWED).",
            param="notify_email",
            code="notify_email_not_allowed",
        )


class JobNotRetryable(ApiError):
    """Only a job that failed or was cancelled can be run again."""

    def __init__(self, status: str) -> None:
        super().__init__(
            409,
            f"The job is {status}; only a failed or cancelled one can be retried.",
            code="job_not_retryable",
            should_retry=False,
        )


class WorkerLost(ApiError):
    """Every attempt of the job ended with its worker's death."""

    def __init__(self) -> None:
        super().__init__(
            500, "The worker died while it ran the job, at each attempt.", code="worker_lost"
        )


class JobTimeout(ApiError):
    """The job's time ran out."""

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(
            504, f"The job took longer than {timeout_seconds:g} s.", code="job_timeout"
        )


class OutputTooLarge(ApiError):
    """The output has more than JOB_MAX_OUTPUT_BYTES, as it would at the next attempt."""

    is_transient = False

    def __init__(self, limit: int) -> None:
        super().__init__(500, f"The output is larger than {limit} bytes.", code="output_too_large")


class TransientFailure(ApiError):
    """A chain raises it for a fault that another attempt may not meet.

    The message is shown to the client. `retry_after_seconds` delays the next attempt.
    """

    is_transient = True

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(503, message, code="chain_failed", retry_after_seconds=retry_after_seconds)


class PermanentFailure(ApiError):
    """A chain raises it for a fault that every attempt would meet."""

    is_transient = False

    def __init__(self, message: str) -> None:
        super().__init__(422, message, code="chain_failed", should_retry=False)
