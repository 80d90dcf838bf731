"""The connections to each provider's server: bounded, reused, and replaced in time."""

from __future__ import annotations

import os
import threading
import time
from collections import deque

from django.conf import settings

from chat import metrics
from chat.errors import ProviderError
from chat.providers.openai_compatible.connection import Connection
from chat.providers.openai_compatible.endpoint import Origin
from chat.providers.openai_compatible.timeouts import Deadline


class PoolExhausted(ProviderError):
    """All connections to a server are in use."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "This node has PROVIDER_MAX_CONNECTIONS calls of the model provider under way; try"
            " again shortly.",
            code="provider_connections_exhausted",
            retry_after_seconds=1.0,
        )


class ConnectionPool:
    """The connections of this process to one server.

    At most PROVIDER_MAX_CONNECTIONS are in use; a call waits PROVIDER_CONNECT_SECONDS for one, and
    then raises PoolExhausted. Idle ones are reused, the latest first, until they are idle for
    PROVIDER_KEEPALIVE_SECONDS or PROVIDER_CONNECTION_MAX_AGE_SECONDS old: a new one resolves the
    name again.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._slots = threading.Semaphore(settings.PROVIDER_MAX_CONNECTIONS)
        self._idle: deque[Connection] = deque()
        self._lock = threading.Lock()
        self.busy = 0
        connections = metrics.PROVIDER_CONNECTIONS
        connections.labels(host=origin.name, state="busy").set_function(lambda: self.busy)
        connections.labels(host=origin.name, state="idle").set_function(lambda: len(self._idle))
        self._opened = metrics.PROVIDER_CONNECTIONS_OPENED.labels(host=origin.name)

    def acquire(self, deadline: Deadline, *, must_be_new: bool = False) -> Connection:
        """Return a connection for one call, which must release or discard it.

        Raises PoolExhausted, ConnectTimeout, Unreachable, and the deadline's timeout.
        """
        until = time.monotonic() + deadline.timeouts.connect_seconds
        wait_seconds = min(deadline.timeouts.connect_seconds, deadline.seconds_left())
        if not self._slots.acquire(timeout=wait_seconds):
            metrics.PROVIDER_POOL_EXHAUSTED.inc()
            raise PoolExhausted
        try:
            connection = None if must_be_new else self._take_idle()
            if connection is None:
                left = min(until - time.monotonic(), deadline.seconds_left())
                connection = Connection(self._origin, max(left, 0.001))
                self._opened.inc()
        except BaseException:
            self._slots.release()
            raise
        with self._lock:
            self.busy += 1
        return connection

    def release(self, connection: Connection) -> None:
        """Take back a connection whose answer was read to its end."""
        connection.was_used = True
        connection.idle_since = time.monotonic()
        with self._lock:
            self.busy -= 1
            self._idle.append(connection)
            expired = self._pop_expired()
        self._slots.release()
        for other in expired:
            other.close()

    def discard(self, connection: Connection) -> None:
        """Close a connection whose answer was not read to its end."""
        # First, because a greenlet may be killed once more at each lock.
        connection.close()
        with self._lock:
            self.busy -= 1
        self._slots.release()

    def close_idle(self) -> None:
        """Close the connections that no call uses."""
        while self._idle:
            self._idle.pop().close()

    def _take_idle(self) -> Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if self._is_current(connection) and connection.is_usable():
                return connection
            connection.close()

    def _is_current(self, connection: Connection) -> bool:
        now = time.monotonic()
        return (
            now - connection.idle_since < settings.PROVIDER_KEEPALIVE_SECONDS
            and now - connection.opened_at < settings.PROVIDER_CONNECTION_MAX_AGE_SECONDS
        )

    def _pop_expired(self) -> list[Connection]:
        """Return the idle connections that are too old; the oldest is the first."""
        expired = []
        while self._idle and not self._is_current(self._idle[0]):
            expired.append(self._idle.popleft())
        return expired


_pools: dict[Origin, ConnectionPool] = {}
_pools_lock = threading.Lock()
# A child must not speak on its parent's connections.
os.register_at_fork(after_in_child=_pools.clear)


def pool_of(origin: Origin) -> ConnectionPool:
    """Return this process's pool of a server."""
    pool = _pools.get(origin)
    if pool is None:
        with _pools_lock:
            pool = _pools.setdefault(origin, ConnectionPool(origin))
    return pool


def close_pools() -> None:
    """Close all idle connections and forget the pools, so that new ones read the settings again."""
    for pool in list(_pools.values()):
        pool.close_idle()
    _pools.clear()
