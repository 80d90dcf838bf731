"""Django finds a database backend by this module's name.

Beyond Django's own it tracks the connections of this greenlet, so that releasing them costs
nothing when there are none; it drops those that lead to no primary any more; and it tracks the
writes on the primary.
"""

from __future__ import annotations

import contextlib
import select
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
from django.conf import settings
from django.db import InternalError
from django.db.backends.postgresql import base
from gevent import monkey
from psycopg_pool import PoolTimeout

from scaling.replicas import metrics
from scaling.replicas.backend.cursors import Cursor
from scaling.replicas.backend.holds import HOLDS
from scaling.replicas.backend.json_values import DatabaseOperations
from scaling.replicas.backend.pools import (
    close_pool,
    has_idle,
    held_here,
    note_returned,
    note_taken,
)
from scaling.replicas.backend.prepared import prepare_where_direct
from scaling.replicas.decision import PRIMARY
from scaling.replicas.health import Sample
from scaling.replicas.position import lsn_of
from scaling.replicas.publishing import mark_committed
from scaling.replicas.read_context import mark_written
from scaling.replicas.statements import is_shared_write, is_write
from scaling.replicas.topology import TOPOLOGY

PROCESS = "SELECT pg_backend_pid()"
RUN = (
    "SELECT pg_backend_pid(), pg_postmaster_start_time()::text,"
    " coalesce(pg_last_wal_replay_lsn(), '0/0')::text"
)

# gevent's own goes through its loop, which takes longer than the call.
_poll = monkey.get_original("select", "poll")

# The state of a replica when each pooled connection was opened.
_origins: weakref.WeakKeyDictionary[psycopg.Connection[Any], ConnectionOrigin] = (
    weakref.WeakKeyDictionary()
)


class ConnectionOrigin(NamedTuple):
    """A replica's state when a connection was opened: its start, and its replayed position."""

    sent_at: float
    started_at: str
    replayed_lsn: int

    def is_at_least(self, sample: Sample) -> bool:
        """Return whether reads here are at least as new as a sample of the server.

        A server that a crash of one process made recover has the same start, and begins its replay
        further back. No connection outlives that, so that one which is older than the sample is of
        the same run; a newer one has the server's position of when it was opened.
        """
        if self.started_at != sample.started_at:
            return False
        return self.sent_at <= sample.taken_at or self.replayed_lsn >= sample.position.lsn


# django-stubs leaves out private classes.
DjangoWrapper: Any = base.DatabaseWrapper


class DatabaseWrapper(DjangoWrapper):  # type: ignore[misc]
    """One greenlet's connection to one server, while it needs it."""

    ops_class = DatabaseOperations

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_counted = False
        if self.alias == PRIMARY:
            self.execute_wrappers.append(self._note_statement)

    def get_connection_params(self) -> Any:
        """Return Django's, with our cursor."""
        return {**super().get_connection_params(), "cursor_factory": Cursor}

    def get_new_connection(self, conn_params: Any) -> Any:
        """Take a connection of the pool; raises OperationalError at once if the server is down."""
        server = TOPOLOGY.server(self.alias)
        if server is not None and server is TOPOLOGY.primary and server.is_unavailable:
            raise psycopg.OperationalError("the primary is unavailable")
        # It was chosen a moment before. Its pool is abandoned; a wait in a new one would not end.
        if server is not None and server.fault == "unreachable" and self.alias != PRIMARY:
            raise psycopg.OperationalError(f"{self.alias} is unavailable")
        # A greenlet that holds a connection to one server while it waits for one to another, as
        # others do the other way round, waits until the pools time out.
        for other in held_here():
            if other is not self and not other.in_atomic_block:
                other.close()
        connection = self._take(conn_params)
        note_taken(self, connection)
        HOLDS.begin(self, connection)
        if server is not None:
            server.busy += 1
            self._is_counted = True
        if server is not None and server is not TOPOLOGY.primary:
            self._refuse_if_restarted(connection, server.sample)
        return connection

    def _take(self, conn_params: Any) -> Any:
        """Return a connection; drop those of the pool that the server has closed since.

        Each of them would fail one request, perhaps long after the server restarted.
        """
        give_up_at = time.monotonic() + settings.DATABASE_POOL["timeout"]
        while True:
            try:
                connection = super().get_new_connection(conn_params)
            except PoolTimeout:
                metrics.POOL_TIMEOUTS.labels(self.alias).inc()
                if self._may_wait(give_up_at):
                    continue
                raise
            # After a wait it may be of a pool that is replaced by now.
            pool = getattr(connection, "_pool", None)
            if pool is None or not _was_closed(connection):
                return connection
            connection.close()
            pool.putconn(connection)

    def _may_wait(self, give_up_at: float) -> bool:
        """Return whether a read waits on for a replica, as no other server could answer either."""
        server = TOPOLOGY.server(self.alias)
        if server is None or server is TOPOLOGY.primary:
            return False
        server.is_suspect = server.is_suspect or server.busy < settings.REPLICA_POOL["max_size"]
        is_only = (
            TOPOLOGY.primary.is_in_doubt
            and server.is_in_rotation
            and not any(map(has_idle, TOPOLOGY.others_in_rotation(self.alias)))
        )
        return is_only and time.monotonic() < give_up_at

    def _refuse_if_restarted(self, connection: Any, sample: Sample | None) -> None:
        # A replica that has restarted may show less than the sample that chose it.
        origin = _origins.get(connection)
        if origin is None or (sample is not None and origin.is_at_least(sample)):
            return
        self._release()
        with contextlib.suppress(psycopg.Error):
            pool = getattr(connection, "_pool", None)
            pool.putconn(connection) if pool is not None else connection.close()
        raise psycopg.OperationalError(f"{self.alias} was restarted")

    def _configure_connection(self, connection: Any) -> Any:
        super()._configure_connection(connection)
        if self.alias == PRIMARY:
            [process_id] = connection.execute(PROCESS).fetchone()
        else:
            sent_at = time.monotonic()
            process_id, started_at, lsn = connection.execute(RUN).fetchone()
            _origins[connection] = ConnectionOrigin(sent_at, started_at, lsn_of(lsn))
        prepare_where_direct(connection, process_id)
        # Where it is no pool's, a transaction has begun.
        return True

    def _close(self) -> None:
        self._release()
        super()._close()

    def _release(self) -> None:
        note_returned(self)
        HOLDS.end(self)
        if self._is_counted and (server := TOPOLOGY.server(self.alias)) is not None:
            server.busy = max(0, server.busy - 1)
        self._is_counted = False

    def _note_statement(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        writes = is_write(sql)
        if writes:
            # Before, because a statement that seems to fail may have been done.
            mark_written(is_shared=is_shared_write(sql))
        try:
            result = execute(sql, params, many, context)
        except InternalError as error:
            if isinstance(error.__cause__, psycopg.errors.ReadOnlySqlTransaction):
                # The primary's name leads elsewhere, or will: the next connection resolves it.
                close_pool(PRIMARY)
            raise
        if not writes:
            return result
        if self.in_atomic_block:
            self.on_commit(mark_committed)
        else:
            mark_committed()
        return result


def _was_closed(connection: psycopg.Connection[Any]) -> bool:
    """Return whether an idle socket is readable: almost always the server closed it.

    It costs no round trip to the server.
    """
    try:
        poll = _poll()
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, psycopg.OperationalError):
        return True
