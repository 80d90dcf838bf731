"""Measure how long connections are held, and report the code that holds one idle.

A connection that is held during a wait for a model, a client or Redis is taken from all other
requests: sixteen such requests stop a node's writes. `HOLDS.report_idle`, which the watcher of the
servers calls at each tick, finds the code that holds one without a query.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from typing import Any

import gevent
from django.conf import settings
from psycopg.pq import TransactionStatus

from scaling.replicas import metrics

logger = logging.getLogger(__name__)

# A process that was starved checks late, and finds holders idle that only had no turn; after this
# many checks in a row all had their turn.
MIN_CHECKS = 3


class _Hold:
    """One connection that is in use."""

    __slots__ = ("connection", "greenlet", "idle_checks", "idle_since", "is_logged", "taken_at")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.greenlet = gevent.getcurrent()
        self.taken_at = time.monotonic()
        self.idle_since = 0.0
        self.idle_checks = 0
        self.is_logged = False

    def is_idle(self) -> bool:
        """Return whether the server runs nothing for it, and no transaction is open."""
        return bool(self.connection.info.transaction_status == TransactionStatus.IDLE)


class Holds:
    """The connections of this process that are in use."""

    def __init__(self) -> None:
        self._holds: dict[Any, _Hold] = {}
        self._lock = threading.Lock()

    def begin(self, wrapper: Any, connection: Any) -> None:
        """Record that a greenlet's `wrapper` has taken a connection."""
        with self._lock:
            self._holds[wrapper] = _Hold(connection)

    def end(self, wrapper: Any) -> None:
        """Record that it was released."""
        with self._lock:
            hold = self._holds.pop(wrapper, None)
        if hold is not None:
            seconds = time.monotonic() - hold.taken_at
            metrics.CONNECTION_HELD_SECONDS.labels(wrapper.alias).observe(seconds)

    def report_idle(self) -> int:
        """Count and log holds that are idle for DATABASE_HOLD_WARN_SECONDS; return their number.

        Each hold is logged once, with the stack of the code that waits.
        """
        limit = settings.DATABASE_HOLD_WARN_SECONDS
        if not limit:
            return 0
        with self._lock:
            holds = list(self._holds.items())
        now = time.monotonic()
        count = 0
        for wrapper, hold in holds:
            if not hold.is_idle():
                hold.idle_checks = 0
                continue
            if not hold.idle_checks:
                hold.idle_since = now
            hold.idle_checks += 1
            if hold.idle_checks < MIN_CHECKS or now - hold.idle_since < limit:
                continue
            count += 1
            if not hold.is_logged:
                hold.is_logged = True
                metrics.IDLE_HOLDS.labels(wrapper.alias).inc()
                logger.warning(
                    "a connection to %s was held idle for %.1f s by\n%s",
                    wrapper.alias,
                    now - hold.taken_at,
                    _stack(hold.greenlet),
                )
        return count


def _stack(greenlet: Any) -> str:
    frame = getattr(greenlet, "gr_frame", None)
    return "".join(traceback.format_stack(frame)) if frame is not None else "a thread that runs"


HOLDS = Holds()
