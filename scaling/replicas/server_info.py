"""Fetch one server's settings and slots for `replicas check`."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from scaling.replicas.sampling import WATCHER, connection_params

# One row. Each process has one connection of this name to each server.
QUERY = """
SELECT pg_is_in_recovery() AS is_in_recovery,
    pg_postmaster_start_time()::text AS started_at,
    current_setting('server_version_num')::int / 10000 AS major_version,
    (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
    rolsuper OR pg_has_role(current_user, 'pg_monitor', 'USAGE') AS may_monitor,
    current_setting('hot_standby_feedback')::bool AS has_feedback,
    current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int AS max_connections,
    (SELECT count(*) FROM pg_stat_activity
        WHERE application_name = %s AND pid <> pg_backend_pid())::int AS processes
FROM pg_roles WHERE rolname = current_user
"""
SLOTS_QUERY = """
SELECT slot_name AS name, active AS is_active, wal_status
FROM pg_replication_slots WHERE slot_type = 'physical' ORDER BY slot_name
"""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A replication slot; `wal_status` is None while it retains no log yet."""

    name: str
    is_active: bool
    wal_status: str | None


@dataclass(frozen=True, kw_only=True)
class ServerInfo:
    """The settings and the state of a server; `max_connections` are those of our role."""

    is_in_recovery: bool
    # To the microsecond, so that servers which began at one time are one.
    started_at: str
    major_version: int
    system_identifier: int
    may_monitor: bool
    has_feedback: bool
    max_connections: int
    # Headrace's processes that watch it.
    processes: int
    slots: tuple[Slot, ...] = ()


def fetch_info(alias: str) -> ServerInfo:
    """Return a server's settings and state; raises psycopg.Error."""
    with psycopg.connect(**connection_params(alias)) as connection:
        row = connection.cursor(row_factory=class_row(ServerInfo)).execute(QUERY, [WATCHER])
        info = row.fetchone()
        slots = connection.cursor(row_factory=class_row(Slot)).execute(SLOTS_QUERY).fetchall()
    assert info is not None  # noqa: S101  (a role sees itself)
    return ServerInfo(**{**vars(info), "slots": tuple(slots)})
