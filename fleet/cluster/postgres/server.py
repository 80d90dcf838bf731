"""One PostgreSQL server, in whichever role: where it lives, how to run it and how to reach it."""

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from django.conf import settings

from fleet.cluster.credentials import Credentials
from fleet.cluster.paths import Layout, write_private
from fleet.cluster.ports import HOST
from fleet.cluster.postgres.programs import check_version
from fleet.cluster.privileges import as_postgres, give_to_postgres
from fleet.cluster.processes import ProcessSpec, Program

USER = "headrace"
DATABASE = "headrace"
# SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
STOP_SIGNAL = "INT"

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    # Two nodes with two pools each, a test run, and a person's shell.
    "max_connections": "200",
    "shared_buffers": "128MB",
    "wal_level": "replica",
    # Without it pg_rewind could not make a replica of a primary that lost its role.
    "wal_log_hints": "on",
    "max_wal_senders": "16",
    "max_replication_slots": "16",
    # For replicas that lag behind a new primary, whose slots are as young as its role.
    "wal_keep_size": "128MB",
    # A replica that never comes back must not fill the disk: beyond this it is copied again.
    "max_slot_wal_keep_size": "2GB",
    "hot_standby": "on",
    "hot_standby_feedback": "on",
    "wal_retrieve_retry_interval": "200ms",
    "log_line_prefix": "%m [%p] ",
    # A statement that fails, and the row that it fails on, hold prompts and answers.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
# What EMBEDDED_SYNCHRONOUS_COMMIT=remote_apply adds; replicas have it for the day of their
# promotion.
SYNCHRONOUS_SETTINGS = {
    "synchronous_commit": "remote_apply",
    "synchronous_standby_names": "ANY 1 (*)",
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """One server; `Primary` and `Replica` add what it does in that role."""

    id: ProcessSpec
    layout: Layout
    credentials: Credentials
    bin_dir: Path

    @property
    def data_dir(self) -> Path:
        """The server's data directory."""
        return self.layout.state_dir / self.id.name

    @property
    def has_data(self) -> bool:
        """The data directory has been made, though perhaps not to its end."""
        return (self.data_dir / "PG_VERSION").exists()

    @property
    def is_standby(self) -> bool:
        """It would start as a replica."""
        return (self.data_dir / "standby.signal").exists()

    @property
    def port(self) -> int:
        """The server's port."""
        return int(self.id.address.rsplit(":", 1)[1])

    def program(self) -> Program:
        """Write `postgresql.conf` and return the server's command."""
        check_version(self.data_dir, self.bin_dir)
        self.configure()
        return Program(
            command=[
                *as_postgres(STOP_SIGNAL),
                str(self.bin_dir / "postgres"),
                "-D",
                str(self.data_dir),
            ],
            stop_signal=STOP_SIGNAL,
            stop_seconds=5,
        )

    def configure(self) -> None:
        """Write `postgresql.conf`; a running server reads it at a reload."""
        values = {**SETTINGS, "port": str(self.port), **self.extra_settings()}
        if settings.EMBEDDED_SYNCHRONOUS_COMMIT == "remote_apply":
            values |= SYNCHRONOUS_SETTINGS
        lines = [f"{name} = {_quoted(value)}" for name, value in values.items()]
        path = self.data_dir / "postgresql.conf"
        write_private(path, "# Written by `cluster up`.\n" + "\n".join(lines) + "\n")
        give_to_postgres(path)

    def extra_settings(self) -> Mapping[str, str]:
        """Return the settings of this role."""
        return {}

    def url(self, database: str = DATABASE) -> str:
        """Return the libpq URL, password included."""
        return (
            f"postgresql://{USER}:{self.credentials.postgres_password}@{self.id.address}/{database}"
        )

    def conninfo(self, *, application_name: str) -> str:
        """Return how PostgreSQL's own programs reach this server, the password in a file.

        All users can read a command line.
        """
        path = self.layout.run_dir / "pgpass"
        write_private(path, f"*:*:*:{USER}:{self.credentials.postgres_password}\n")
        give_to_postgres(path)
        return (
            f"host={HOST} port={self.port} user={USER} application_name={application_name}"
            f" passfile='{path}'"
        )

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Open a connection in which each statement is its own transaction.

        It waits for no replica: it serves to bring replicas about.
        """
        return psycopg.connect(
            self.url(database),
            autocommit=True,
            connect_timeout=2,
            options="-c synchronous_commit=local -c statement_timeout=30000",
        )

    def is_ready(self) -> bool:
        """Return whether the server answers queries."""
        try:
            with self.connect() as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def is_in_recovery(self) -> bool | None:
        """Return whether the server follows another; None when it does not answer."""
        try:
            with self.connect() as connection:
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        except psycopg.Error:
            return None
        return bool(row and row[0])

    def reload(self, pid: int) -> None:
        """Write `postgresql.conf` and let the running server `pid` read it, a frozen one later."""
        self.configure()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)

    def slots(self, *, usable: bool = False) -> set[str]:
        """Return the physical slots, or only those that still hold all that their replica needs."""
        query = "SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'physical'"
        if usable:
            query += " AND wal_status IS DISTINCT FROM 'lost' AND restart_lsn IS NOT NULL"
        with self.connect() as connection:
            return {row[0] for row in connection.execute(query.encode()).fetchall()}

    def make_slots(self, names: Iterable[str]) -> None:
        """Create the slots that are missing, which retain WAL from now on.

        A replica may make them too, for the time when it is the primary.
        """
        for name in sorted(set(names) - self.slots(usable=True)):
            self.drop_slot(name)
            with self.connect() as connection:
                connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [name])

    def drop_slot(self, name: str) -> None:
        """Drop a server's slot, also one that a copy which was cut short still seems to use."""
        with self.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
                " WHERE slot_name = %s AND active",
                [name],
            )
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_name = %s",
                [name],
            )

    def drop_slots(self, *, except_of: Iterable[str] = ()) -> None:
        """Drop slots of servers that need them no more, which would hold WAL back for ever."""
        with self.connect() as connection:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_type = 'physical' AND NOT active AND slot_name ~ '^(postgres|replica)'"
                " AND NOT slot_name = ANY(%s)",
                [list(except_of)],
            )


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
