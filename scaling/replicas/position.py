"""A position in PostgreSQL's write-ahead log."""

from __future__ import annotations

import re
from typing import NamedTuple

# A client sends it to read at least this position, and every answer that wrote has it.
HEADER = "x-headrace-position"
_TEXT = re.compile(r"([0-9A-Fa-f]{1,8})-([0-9A-Fa-f]{1,16})", re.ASCII)
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", re.ASCII)

# `Position.from_row` reads its row. The insert position, because a commit with
# synchronous_commit=off is written a moment later.
CURRENT_POSITION = (
    "SELECT pg_current_wal_insert_lsn()::text,"
    " left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
)


class Position(NamedTuple):
    """A byte of the log of one timeline; a promotion begins the next timeline."""

    timeline: int
    lsn: int

    def covers(self, required: Position) -> bool:
        """Return whether a server that has replayed this much shows the writes up to `required`.

        Both numbers must be as great. A replica that still follows the primary of before a failover
        may be ahead by bytes and lack every write since; one behind by bytes on the new timeline
        may lack writes from before it.
        """
        return self.lsn >= required.lsn and self.timeline >= required.timeline

    def __str__(self) -> str:
        return f"{self.timeline:X}-{self.lsn:X}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position of `str`'s text; raises ValueError."""
        if not (found := _TEXT.fullmatch(text)):
            raise ValueError("must look like 1-3000148, as in an answer's header")
        return cls(int(found[1], 16), int(found[2], 16))

    @classmethod
    def from_row(cls, row: tuple[str, str]) -> Position:
        """Return the position of a row of CURRENT_POSITION."""
        return cls(int(row[1], 16), lsn_of(row[0]))


def later_of(first: Position | None, second: Position | None) -> Position | None:
    """Return the later of two positions, of which any may be missing."""
    if first is None or second is None:
        return first or second
    return max(first, second)


def lsn_of(text: str) -> int:
    """Return the number of an LSN such as 0/3000148; raises ValueError."""
    if not (found := _LSN.fullmatch(text)):
        raise ValueError(f"not an LSN: {text!r}")
    return int(found[1], 16) << 32 | int(found[2], 16)


def lsn_text(lsn: int) -> str:
    """Return an LSN in PostgreSQL's notation."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
