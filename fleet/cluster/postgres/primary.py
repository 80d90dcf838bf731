"""The server that takes the writes."""

from fleet.cluster import binaries
from fleet.cluster.errors import ProcessFailed
from fleet.cluster.paths import write_private
from fleet.cluster.postgres.programs import empty_data_dir, run_tool
from fleet.cluster.postgres.server import DATABASE, USER, Server

PROMOTE_SECONDS = 60


class Primary(Server):
    """The server that takes the writes."""

    def create(self) -> bool:
        """Make the data directory when there is none; return whether it was made."""
        if self.has_data:
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

    def flushed(self) -> int:
        """Return up to which position the WAL is on disk; raises psycopg.Error."""
        with self.connect() as connection:
            row = connection.execute("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn").fetchone()
        return int(row[0]) if row else 0

    def promote(self) -> bool:
        """Promote the server if it still is a replica; return whether it was one.

        PostgreSQL first replays all WAL that it has received, without its apply delay.
        """
        if not self.is_in_recovery():
            return False
        with self.connect() as connection:
            connection.execute("SET statement_timeout = 0")
            row = connection.execute(
                "SELECT pg_promote(wait_seconds => %s)", [PROMOTE_SECONDS]
            ).fetchone()
            if not (row and row[0]):
                raise ProcessFailed(self.id.name, f"was not promoted within {PROMOTE_SECONDS} s")
            # pg_rewind looks for the new timeline in what the checkpoint writes.
            connection.execute("CHECKPOINT")
        return True
