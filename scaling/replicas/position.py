"""A place in PostgreSQL's write-ahead log."""

from __future__ import annotations

import re
from typing import NamedTuple

_TEXT = re.compile(r"([0-9A-Fa-f]{1,8})-([0-9A-Fa-f]{1,16})", re.ASCII)
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", re.ASCII)

# One row of this is what `Position.from_row` reads. The insert position, because what was committed
# with synchronous_commit=off is written a moment later.
CURRENT_POSITION = (
    "SELECT pg_current_wal_insert_lsn()::text,"
    " left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
)


class Position(NamedTuple):
    """A byte of the log of one timeline; a promotion begins the next timeline."""

    timeline: int
    lsn: int

    def covers(self, required: Position) -> bool:
        """Say whether a server that has replayed this much shows what was written at `required`.

        Both must be as great. A replica that still follows the primary of before a failover may be
        ahead by bytes and lack every write since; one behind by bytes on the new timeline may lack
        what was written before it.
        """
        return self.lsn >= required.lsn and self.timeline >= required.timeline

    def __str__(self) -> str:
        return f"{self.timeline:X}-{self.lsn:X}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what `str` wrote; raises ValueError."""
        if not (found := _TEXT.fullmatch(text)):
            raise ValueError("must look like 1-3000148, as an answer's header gave it")
        return cls(int(found[1], 16), int(found[2], 16))

    @classmethod
    def from_row(cls, row: tuple[str, str]) -> Position:
        """Read the row of CURRENT_POSITION."""
        return cls(int(row[1], 16), lsn_of(row[0]))


def lsn_of(text: str) -> int:
    """Read PostgreSQL's own notation, such as 0/3000148; raises ValueError."""
    if not (found := _LSN.fullmatch(text)):
        raise ValueError(f"not an LSN: {text!r}")
    return int(found[1], 16) << 32 | int(found[2], 16)


def lsn_text(lsn: int) -> str:
    """Write an LSN as PostgreSQL does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
