"""The outcome of one attempt at a delivery."""

from __future__ import annotations

from dataclasses import dataclass

from config.text import storable

MAX_ERROR_CHARS = 500


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of one attempt; `is_permanent` marks a failure that no later attempt can mend.

    `retry_after_seconds` is the pause that the receiver wants before the next one.
    """

    is_delivered: bool
    is_permanent: bool = False
    status_code: int | None = None
    error: str = ""
    retry_after_seconds: float = 0.0


@dataclass(frozen=True)
class Postponement:
    """A delivery that may not be sent yet: no attempt was made."""

    seconds: float


def delivered(*, status_code: int | None = None) -> Outcome:
    """Return the outcome of an attempt that succeeded."""
    return Outcome(is_delivered=True, status_code=status_code)


def failed(
    error: str,
    *,
    is_permanent: bool = False,
    status_code: int | None = None,
    retry_after_seconds: float = 0.0,
) -> Outcome:
    """Return the outcome of an attempt that failed, with as much of the reason as is stored."""
    # The text may be a receiver's.
    text = storable(error)[:MAX_ERROR_CHARS]
    return Outcome(
        is_delivered=False,
        is_permanent=is_permanent,
        status_code=status_code,
        error=text,
        retry_after_seconds=retry_after_seconds,
    )
