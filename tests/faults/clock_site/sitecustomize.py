"""Makes Python sleep under libfaketime 0.9.10, whose `clock_nanosleep` fails."""

import select
import time


def sleep(seconds: float) -> None:
    """Sleep as `time.sleep` does."""
    select.select([], [], [], seconds)


time.sleep = sleep  # type: ignore[assignment]
