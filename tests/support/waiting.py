"""Wait for what happens soon, and bound how long something takes.

Every bound in seconds that a test puts on this machine's speed goes through `slack`, so that one
variable makes all of them wider on a slow machine: HEADRACE_TEST_SLACK=3.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SLACK = float(os.environ.get("HEADRACE_TEST_SLACK") or 1)
POLL_SECONDS = 0.05


def slack(seconds: float) -> float:
    """Return a bound in seconds as a slow machine needs it."""
    return seconds * SLACK


def eventually(
    check: Callable[[], T],
    *,
    seconds: float,
    what: str | Callable[[], str],
    every_seconds: float = POLL_SECONDS,
    errors: tuple[type[Exception], ...] = (),
) -> T:
    """Return the first true value of a check; fail with its description when there is none in time.

    An error of the given classes counts as not true yet. The bound has the slack of the machine.
    """
    deadline = time.monotonic() + slack(seconds)
    while True:
        try:
            if found := check():
                return found
        except errors as error:
            last: object = error
        else:
            last = found
        if time.monotonic() > deadline:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {slack(seconds)} s: {text}; the last was {last!r}")
        time.sleep(every_seconds)
