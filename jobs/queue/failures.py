"""Classify an exception of a chain: the message for the client, and whether to retry."""

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


def classify(error: Exception) -> Failure:
    """Return the failure that an attempt's exception stands for.

    An exception, or the one that caused it, declares by `is_transient` whether another attempt may
    succeed. Without that attribute, our own refusals (4xx) and a timeout are permanent and every
    other is transient: a chain's own code may have met a network fault under any name.
    """
    if isinstance(error, ChainTimeout):
        error = JobTimeout(error.timeout_seconds)
    cause = error.__cause__
    api_error = error if isinstance(error, ApiError) else None
    is_transient = next(
        (
            bool(declared)
            for source in (error, cause)
            if (declared := getattr(source, "is_transient", None)) is not None
        ),
        None,
    )
    if is_transient is None:
        is_permanent = isinstance(error, JobTimeout | ChainNotFound) or (
            api_error is not None and 400 <= api_error.status < 500
        )
        is_transient = not is_permanent
    return Failure(
        code=(api_error.code if api_error else None) or "chain_error",
        message=api_error.message if api_error else "The chain failed.",
        is_transient=is_transient,
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
