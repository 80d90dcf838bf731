"""Sample the state of one server."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psycopg
from django.db import connections
from psycopg.conninfo import conninfo_to_dict

from scaling.replicas.backend.pools import shut_down
from scaling.replicas.health import Sample
from scaling.replicas.position import Position, lsn_of

# The name under which PostgreSQL lists the watchers' connections.
WATCHER = "headrace-watcher"
CONNECT_TIMEOUT_SECONDS = 2
# A server that is this slow to answer is too slow for reads.
STATEMENT_TIMEOUT_MS = 1000
# One row. A replica's timeline is that of the log that it receives, or else of its last restart
# point, which may be long past; both need the role pg_monitor (or pg_read_all_stats and
# pg_read_all_settings).
QUERY = """
SELECT pg_is_in_recovery() AS is_in_recovery,
    pg_postmaster_start_time()::text AS started_at,
    CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0')
         ELSE pg_current_wal_insert_lsn() END::text AS lsn,
    CASE WHEN pg_is_in_recovery() THEN coalesce(
             (SELECT received_tli FROM pg_stat_wal_receiver),
             (SELECT timeline_id FROM pg_control_checkpoint()))
         ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
    END AS timeline,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int
        AS connections,
    (SELECT system_identifier FROM pg_control_system()) AS system,
    pg_backend_pid() AS pid, extract(epoch FROM clock_timestamp())::float8 AS unix_time
"""
# Ends the connection that a pooler has to the server, which it would use for the next query.
END = "SELECT pg_terminate_backend(pg_backend_pid()) WHERE pg_is_in_recovery()"


class Sampler:
    """Queries one server, over a connection of its own."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        # When the query under way was sent.
        self.sent_at: float | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._address: object = None
        self._offered: psycopg.Connection[Any] | None = None
        self._is_pooled = False
        # A replica whose primary is lost receives nothing; until it restarts, it stays on the
        # timeline that it was on.
        self._run: tuple[str, int] = ("", 0)

    def sample(self) -> Sample:
        """Return a sample of the server; raises psycopg.Error."""
        try:
            connection = self.connection()
            taken_at = self.sent_at = time.monotonic()
            row = connection.execute(QUERY).fetchone()
            answered_at = time.monotonic()
        except BaseException:
            self.close()
            raise
        finally:
            self.sent_at = None
        assert row is not None  # noqa: S101  (the query has one row)
        is_in_recovery, started_at, lsn, timeline, clients, system, pid, unix_time = row
        # A pooler has process ids of its own.
        self._is_pooled = pid != connection.info.backend_pid
        if started_at == self._run[0]:
            timeline = max(timeline or 0, self._run[1])
        self._run = started_at, timeline or 0
        return Sample(
            taken_at=taken_at,
            is_in_recovery=is_in_recovery,
            position=Position(timeline or 0, lsn_of(lsn)),
            started_at=started_at,
            connections=clients,
            system=system or 0,
            unix_time=unix_time,
            answered_at=answered_at,
        )

    def connect(self) -> psycopg.Connection[Any]:
        """Return a new connection; raises psycopg.Error."""
        return psycopg.connect(**connection_params(self.alias))

    def offer(self, connection: psycopg.Connection[Any]) -> None:
        """Use this connection from the next query on."""
        self._offered, unused = connection, self._offered
        if unused is not None:
            unused.close()

    def leave(self) -> None:
        """Close a connection that leads to the wrong server, also a pooler's to that server."""
        if self._is_pooled and self._connection is not None:
            # The server ends it, which looks like a failure.
            with contextlib.suppress(psycopg.Error):
                self._connection.execute(END)
        self.close()

    def interrupt(self) -> None:
        """Make the query that is under way fail."""
        if (connection := self._connection) is not None:
            shut_down(connection)

    def close(self) -> None:
        """Close all connections."""
        given_up = self._connection, self._offered
        self._connection = self._offered = None
        for connection in given_up:
            if connection is not None:
                connection.close()

    def connection(self) -> psycopg.Connection[Any]:
        """Return the connection for the next query; raises psycopg.Error."""
        address = connection_params(self.alias)
        offered, self._offered = self._offered, None
        if offered is not None and address == self._address:
            offered, self._connection = self._connection, offered
        if offered is not None:
            offered.close()
        if self._connection is None or self._connection.closed or address != self._address:
            self.close()
            self._connection = self.connect()
            self._address = address
        return self._connection


def connection_params(alias: str) -> dict[str, Any]:
    """Return psycopg's parameters for a query of a server, from Django's settings."""
    entry = connections.settings[alias]
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host"}
    names["PORT"] = "port"
    libpq = {key: value for key, value in entry["OPTIONS"].items() if key != "pool"}
    # Validates them as libpq does, and drops others than libpq's.
    known = conninfo_to_dict("", **{k: v for k, v in libpq.items() if isinstance(v, str | int)})
    return {
        **known,
        **{libpq_name: entry[name] for name, libpq_name in names.items() if entry.get(name)},
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": WATCHER,
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
        "autocommit": True,
        "client_encoding": "UTF8",
        # psycopg would prepare the query at its sixth time; behind a PgBouncer the next may come to
        # a server connection that does not have it.
        "prepare_threshold": None,
    }
