"""Which server a read goes to: a pure function of what is known in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from scaling.replicas.position import Position

PRIMARY = "default"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica as a process knows it: what it has surely replayed, and how busy we keep it."""

    name: str
    is_in_rotation: bool
    replayed: Position | None
    # Connections of this process in use there.
    busy: int


class Choice(NamedTuple):
    """A server's name and why it was chosen: replica, writes, behind, none."""

    server: str
    reason: str


def choose(
    candidates: Iterable[Candidate], required: Position | None, *, preferred: str = ""
) -> Choice:
    """Return the least busy replica in rotation that has replayed `required`, else the primary.

    Least busy rather than least lagged: what a caller must see is settled by the position, so what
    is left is to share the work. Equally busy ones take turns if the caller turns the order. A
    `preferred` replica, that of a request's read before, is taken however busy it is.
    """
    best: Candidate | None = None
    is_any = False
    for candidate in candidates:
        if not candidate.is_in_rotation:
            continue
        is_any = True
        if required is not None and (
            candidate.replayed is None or not candidate.replayed.covers(required)
        ):
            continue
        if candidate.name == preferred:
            return Choice(preferred, "replica")
        if best is None or candidate.busy < best.busy:
            best = candidate
    if best is not None:
        return Choice(best.name, "replica")
    return Choice(PRIMARY, "behind" if is_any else "none")
