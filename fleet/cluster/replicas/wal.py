"""The end of a stopped server's WAL, from its data directory."""

import re
from dataclasses import dataclass

from fleet.cluster.errors import ProcessFailed
from fleet.cluster.postgres.programs import run_tool
from fleet.cluster.postgres.server import Server


@dataclass(frozen=True, kw_only=True)
class WalEnd:
    """The last checkpoint, as a position in bytes; the very end of the WAL when `is_clean`."""

    is_clean: bool
    checkpoint: int
    timeline: int


def read_end(server: Server) -> WalEnd:
    """Return the end of a stopped server's WAL; raise `ProcessFailed` when its files are gone."""
    tool = str(server.bin_dir / "pg_controldata")
    text = run_tool(server.id.name, [tool, str(server.data_dir)])

    def value(name: str) -> str:
        match = re.search(rf"^{re.escape(name)}:\s+(.+)$", text, flags=re.MULTILINE)
        if match is None:
            raise ProcessFailed(server.id.name, f"pg_controldata reports no {name!r}")
        return match[1]

    return WalEnd(
        is_clean=value("Database cluster state") == "shut down",
        checkpoint=_position(value("Latest checkpoint location")),
        timeline=int(value("Latest checkpoint's TimeLineID")),
    )


def commits_after(server: Server, position: int, *, timeline: int) -> int:
    """Return how many transactions a stopped server committed after a position of its WAL."""
    lines = run_tool(
        server.id.name,
        [
            str(server.bin_dir / "pg_waldump"),
            f"--path={server.data_dir / 'pg_wal'}",
            f"--timeline={timeline}",
            f"--start={position >> 32:X}/{position & 0xFFFFFFFF:X}",
            "--rmgr=Transaction",
        ],
        # WAL never ends with a mark, only with what cannot be read.
        is_expected_to_fail=True,
    )
    return len(re.findall(r"desc: COMMIT", lines))


def _position(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)
