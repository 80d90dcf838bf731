"""PostgreSQL servers outside a stack: to stop, freeze, promote and move behind a name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import psycopg

from fleet.cluster.postgres.programs import empty_data_dir, find_bin, run_tool
from fleet.cluster.privileges import as_postgres, give_to_postgres
from tests.support.redis_server import free_port
from tests.support.waiting import eventually

SECONDS = 30.0
CONFIG = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 120
shared_buffers = '32MB'
wal_log_hints = on
wal_keep_size = '8MB'
min_wal_size = '4MB'
max_wal_size = '16MB'
max_slot_wal_keep_size = '16MB'
hot_standby_feedback = on
wal_retrieve_retry_interval = '200ms'
timezone = 'UTC'
logging_collector = off
"""


class LonePostgres:
    """One server in a directory of its own, with segments of 1 MB."""

    def __init__(self, directory: Path, *, env: Mapping[str, str] = {}) -> None:
        self.data_dir = directory
        self._env = {**os.environ, **env}
        self.port = free_port()
        self._bin = find_bin()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, port: int | None = None) -> str:
        """Return the database's URL, perhaps by another port that leads here."""
        return f"postgresql://headrace@127.0.0.1:{port or self.port}/headrace"

    # --- Making ---------------------------------------------------------------------------------
    def create(self) -> None:
        """Make an empty database, and start the server."""
        empty_data_dir(self.data_dir)
        options = ("--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--no-sync")
        self._run("initdb", "--username=headrace", "--auth=trust", *options)
        self._configure()
        self.start()
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE headrace")

    def copy(self, primary: LonePostgres) -> None:
        """Become a replica of `primary`, and start."""
        empty_data_dir(self.data_dir)
        source = primary.conninfo("postgres")
        self._run("pg_basebackup", f"--dbname={source}", "--checkpoint=fast", "-R")
        self._configure()
        self.start()

    def follow(self, primary: LonePostgres) -> None:
        """Be rewound, and start as a replica of `primary`; the server has been stopped."""
        source = primary.conninfo("postgres")
        self._run("pg_rewind", f"--source-server={source}", of="target-pgdata")
        self._configure()
        (self.data_dir / "standby.signal").touch()
        give_to_postgres(self.data_dir / "standby.signal")
        auto = self.data_dir / "postgresql.auto.conf"
        auto.write_text(f"primary_conninfo = '{source}'\n")
        give_to_postgres(auto)
        self.start()

    def promote(self) -> None:
        """Accept writes."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    # --- Running --------------------------------------------------------------------------------
    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [*as_postgres("INT"), str(self._bin / "postgres"), "-D", str(self.data_dir)]
        with (self.data_dir.parent / f"{self.data_dir.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._env)
        eventually(self.is_ready, seconds=SECONDS, what="PostgreSQL answers")

    def stop(self) -> None:
        """Stop the server, a frozen one too."""
        if self._process is not None:
            self.signal_all(signal.SIGCONT)
            self._process.send_signal(signal.SIGINT)
            self._process.wait(SECONDS)
            self._process = None

    def is_ready(self) -> bool:
        """Return whether the server answers."""
        try:
            self.query("SELECT 1", database="postgres")
        except psycopg.Error:
            return False
        return True

    def query(self, statement: str, *, database: str = "headrace") -> list[tuple[object, ...]]:
        """Run one statement on this very server, and return its rows."""
        conninfo = self.conninfo(database)
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=2) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    # --- Breaking -------------------------------------------------------------------------------
    @contextlib.contextmanager
    def frozen(self, *, only_postmaster: bool = False) -> Iterator[None]:
        """Stop the server's processes, or that alone which makes new connections."""
        assert self._process is not None
        if only_postmaster:
            self._process.send_signal(signal.SIGSTOP)
        else:
            # The postmaster first: it makes no others then.
            self.signal_all(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal_all(signal.SIGCONT)

    def end_clients(self) -> None:
        """End the connections of all clients."""
        self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the server."""
        assert self._process is not None
        postmaster = psutil.Process(self._process.pid)
        postmaster.send_signal(number)
        for process in postmaster.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def conninfo(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=headrace dbname={database}"

    def _configure(self) -> None:
        path = self.data_dir / "postgresql.conf"
        path.write_text(f"{CONFIG}port = {self.port}\n")
        give_to_postgres(path)

    def _run(self, program: str, *arguments: str, of: str = "pgdata") -> None:
        command = [str(self._bin / program), f"--{of}={self.data_dir}", *arguments]
        run_tool(self.data_dir.name, command)
