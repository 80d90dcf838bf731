"""A hot standby that streams from another server."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psycopg
from django.conf import settings

from fleet.cluster.errors import ProcessFailed
from fleet.cluster.postgres.programs import empty_data_dir, run_tool
from fleet.cluster.postgres.server import Server
from fleet.cluster.privileges import give_to_postgres


class Joined(StrEnum):
    """The way in which a server came to follow the primary."""

    RESUMED = "went on where it stopped"
    REWOUND = "rewound to follow the primary"
    COPIED = "copied the primary"


@dataclass(frozen=True, kw_only=True)
class Replica(Server):
    """A hot standby that streams from the primary through its own slot."""

    primary: Server

    def create(self, *, from_scratch: bool = False) -> Joined:
        """Make the data directory one that can follow the primary; the server must not run.

        It goes on where it stopped when the primary still has its slot. One that was the primary is
        rewound. When neither is possible, an earlier attempt was cut short, or `from_scratch` is
        set, it is a new copy.
        """
        if from_scratch:
            return self._copy()
        if not self._is_rewinding and self.is_standby and self._has_slot():
            return Joined.RESUMED
        # A copy that was cut short has a label, and no signal file.
        is_cut_short = self._is_rewinding or (self.data_dir / "backup_label").exists()
        if is_cut_short or self.is_standby or not self.has_data:
            return self._copy()
        try:
            return self._rewind()
        except ProcessFailed:
            return self._copy()

    def extra_settings(self) -> Mapping[str, str]:
        """Follow the primary, whose port is another at each start."""
        conninfo = self.primary.conninfo(application_name=self.id.name)
        return {"primary_conninfo": conninfo, "primary_slot_name": self.id.name}

    def is_ready(self) -> bool:
        """Return whether the replica answers queries and receives the primary's WAL.

        Both are queried. A receiver calls itself streaming before it is let to; and one that has
        WAL of an older timeline that the primary never had, is sent what came before it for ever.
        """
        try:
            with self.connect() as connection:
                received = connection.execute(
                    "SELECT received_tli FROM pg_stat_wal_receiver"
                ).fetchone()
            with self.primary.connect() as connection:
                sent = connection.execute(
                    "SELECT pg_walfile_name(pg_current_wal_lsn()) FROM pg_stat_replication"
                    " WHERE application_name = %s AND state IN ('catchup', 'streaming')",
                    [self.id.name],
                ).fetchone()
        except psycopg.Error:
            return False
        if received is None or sent is None:
            return False
        # The name of a WAL file begins with its timeline, in hexadecimal.
        return bool(received[0] == int(sent[0][:8], 16))

    def is_connected(self) -> bool:
        """Return whether there may be WAL of the primary on its way; raises psycopg.Error."""
        query = "SELECT 1 FROM pg_stat_wal_receiver WHERE sender_port = %s"
        with self.connect() as connection:
            return connection.execute(query, [self.primary.port]).fetchone() is not None

    def received(self) -> int:
        """Return up to which position this server has the primary's WAL; raises psycopg.Error."""
        with self.connect() as connection:
            # The first is empty until it streams, and begins at the segment's start.
            row = connection.execute(
                "SELECT GREATEST(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"
                " - '0/0'::pg_lsn"
            ).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def _has_slot(self) -> bool:
        return self.id.name in self.primary.slots(usable=True)

    @property
    def _is_rewinding(self) -> bool:
        return self._rewind_mark.exists()

    @property
    def _rewind_mark(self) -> Path:
        # Outside the data directory, in which pg_rewind removes what the primary does not have.
        return self.layout.state_dir / f"{self.id.name}.rewinding"

    def _copy(self) -> Joined:
        with self._own_settings_preserved():
            self.primary.drop_slot(self.id.name)
            empty_data_dir(self.data_dir)
            run_tool(
                self.id.name,
                [
                    str(self.bin_dir / "pg_basebackup"),
                    f"--pgdata={self.data_dir}",
                    f"--dbname={self.primary.conninfo(application_name=self.id.name)}",
                    "--checkpoint=fast",
                    "--wal-method=stream",
                    "--create-slot",
                    f"--slot={self.id.name}",
                ],
                timeout_seconds=settings.EMBEDDED_COPY_TIMEOUT_SECONDS,
                advice="; allow more with EMBEDDED_COPY_TIMEOUT_SECONDS",
            )
        self._become_standby()
        return Joined.COPIED

    def _rewind(self) -> Joined:
        self.primary.make_slots([self.id.name])
        # A rewind that is cut short leaves data that only look complete.
        self._rewind_mark.touch()
        with self._own_settings_preserved():
            run_tool(
                self.id.name,
                [
                    str(self.bin_dir / "pg_rewind"),
                    f"--target-pgdata={self.data_dir}",
                    f"--source-server={self.primary.conninfo(application_name=self.id.name)}"
                    " dbname=postgres",
                ],
            )
        self._become_standby()
        return Joined.REWOUND

    def _become_standby(self) -> None:
        # Last, so that a copy that was cut short is not taken for a complete one.
        signal_file = self.data_dir / "standby.signal"
        signal_file.touch(mode=0o600)
        give_to_postgres(signal_file)
        self._rewind_mark.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _own_settings_preserved(self) -> Iterator[None]:
        """Preserve what `ALTER SYSTEM` set here: the primary's would come with its files."""
        path = self.data_dir / "postgresql.auto.conf"
        own = path.read_bytes() if path.exists() else None
        yield
        if own is not None:
            path.write_bytes(own)
            give_to_postgres(path)
