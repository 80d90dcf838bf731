"""`Retry-After` as other servers send it: RFC 9110, section 10.2.3."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime


def retry_after_seconds(value: str | None, *, most_seconds: float) -> float:
    """Return the pause that a header wants, a number or a date, at most so long; 0 for none."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = _until(value)
    # A NaN fails the comparison, too.
    return min(seconds, most_seconds) if seconds > 0 else 0.0


def _until(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    # Of a date that is none, and of one that no clock has.
    except (ValueError, TypeError, OverflowError):
        return 0.0
