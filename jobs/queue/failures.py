"""Read an exception of a chain: what to tell, and whether to try again."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from django.conf import settings

from chat.errors import ChainNotFound, ChainTimeout
from config.api.errors import ApiError
from config.backoff import equal_jitter_seconds
from jobs.errors import JobTimeout

MAX_TRACEBACK_CHARS = 20_000


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt failed. `message` is for the client, `traceback` for staff alone."""

    code: str
    message: str
    is_transient: bool
    retry_after_seconds: float | None = None
    traceback: str = ""


def read_failure(error: Exception) -> Failure:
    """Return what an attempt's exception means.

    An exception, or the one that caused it, says by `is_transient` whether another attempt may
    succeed. Without that word, our own refusals (4xx) and a timeout are permanent and everything
    else is transient: a chain's own code may have met a network fault under any name.
    """
    if isinstance(error, ChainTimeout):
        error = JobTimeout(error.timeout_seconds)
    cause = error.__cause__
    api_error = error if isinstance(error, ApiError) else None
    verdict = next(
        (
            bool(said)
            for source in (error, cause)
            if (said := getattr(source, "is_transient", None)) is not None
        ),
        None,
    )
    if verdict is None:
        is_permanent = isinstance(error, JobTimeout | ChainNotFound) or (
            api_error is not None and 400 <= api_error.status < 500
        )
        verdict = not is_permanent
    return Failure(
        code=(api_error.code if api_error else None) or "chain_error",
        message=api_error.message if api_error else "The chain failed.",
        is_transient=verdict,
        retry_after_seconds=api_error.retry_after_seconds if api_error else None,
        traceback="".join(traceback.format_exception(error))[-MAX_TRACEBACK_CHARS:],
    )


def retry_delay_seconds(attempt: int, retry_after_seconds: float | None) -> float:
    """Return the pause after the failed attempt of this number.

    Never less than the provider's own Retry-After.
    """
    delay = equal_jitter_seconds(
        attempt,
        base_seconds=settings.JOB_RETRY_BASE_SECONDS,
        max_seconds=settings.JOB_RETRY_MAX_SECONDS,
    )
    return max(delay, retry_after_seconds or 0.0)
