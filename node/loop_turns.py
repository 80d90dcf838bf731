"""Yield to the event loop now and then from code that never waits."""

from __future__ import annotations

import time

import gevent

YIELD_EVERY_SECONDS = 0.002


class LoopTurns:
    """The turns of this process's event loop."""

    def __init__(self) -> None:
        self._ends_at = 0.0

    def yield_to_loop(self, now: float) -> None:
        """Yield to other connections after YIELD_EVERY_SECONDS; `now` is monotonic."""
        if now >= self._ends_at:
            gevent.sleep(0)
            self._ends_at = time.monotonic() + YIELD_EVERY_SECONDS


LOOP_TURNS = LoopTurns()
