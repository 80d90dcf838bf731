"""The time that all processes share: that of PostgreSQL's primary.

Leases and due times are PostgreSQL's own `now()`. A time that processes compare with each other
(when an answer was stored, when a job was made) or sign (webhooks) must not depend on the clock of
the machine that they run on, which may be minutes off, or be set while they run.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

# How long the reply's way may take without being noticed, in seconds.
NOISE_SECONDS = 0.01


class SharedClock:
    """Unix time by the monotonic clock, as the watcher last compared it with the primary's.

    A process without a watcher, such as a command, has its own machine's time.
    """

    def __init__(self) -> None:
        self._offset: float | None = None

    def compare(self, unix_time: float, *, sent_at: float, answered_at: float) -> None:
        """Adopt the primary's time, read between these two moments of time.monotonic()."""
        offset = unix_time - (sent_at + answered_at) / 2
        doubt = (answered_at - sent_at) / 2 + NOISE_SECONDS
        if self._offset is None or abs(offset - self._offset) > doubt:
            self._offset = offset

    def now(self) -> float:
        """Return the Unix time."""
        offset = self._offset
        return time.time() if offset is None else time.monotonic() + offset

    def datetime(self) -> datetime:
        """Return the same as a datetime in UTC."""
        return datetime.fromtimestamp(self.now(), UTC)


CLOCK = SharedClock()
