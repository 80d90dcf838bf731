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
    # Whether a connection can be had without a wait.
    is_ready: bool = True


class Choice(NamedTuple):
    """A server's name and why it was chosen: replica, writes, behind, none, no_connection, late."""

    server: str
    reason: str
    # The replica that lacks the connection it would have been chosen with.
    wanted: str = ""


def choose(
    candidates: Iterable[Candidate],
    required: Position | None,
    *,
    preferred: str = "",
    is_primary_ready: bool = True,
) -> Choice:
    """Return the least busy replica in rotation that has replayed `required`, else the primary.

    Least busy rather than least lagged: what a caller must see is settled by the position, so what
    is left is to share the work. Equally busy ones take turns if the caller turns the order. A
    `preferred` replica, that of a request's read before, is taken however busy it is. A replica
    that would have to be waited for is chosen only if the primary would have to be, too.
    """
    ready: Candidate | None = None
    unready: Candidate | None = None
    is_any = False
    for candidate in candidates:
        if not candidate.is_in_rotation:
            continue
        is_any = True
        if required is not None and (
            candidate.replayed is None or not candidate.replayed.covers(required)
        ):
            continue
        if not candidate.is_ready:
            unready = _less_busy(unready, candidate)
        elif candidate.name == preferred:
            return Choice(preferred, "replica")
        else:
            ready = _less_busy(ready, candidate)
    if ready is not None:
        return Choice(ready.name, "replica")
    if unready is None:
        return Choice(PRIMARY, "behind" if is_any else "none")
    if is_primary_ready:
        return Choice(PRIMARY, "no_connection", wanted=unready.name)
    return Choice(unready.name, "replica", wanted=unready.name)


def _less_busy(best: Candidate | None, candidate: Candidate) -> Candidate:
    return candidate if best is None or candidate.busy < best.busy else best
