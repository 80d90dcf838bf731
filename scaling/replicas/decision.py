"""Choose the server of a read: a pure function of the state in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from scaling.replicas.position import Position

PRIMARY = "default"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica's state in this process: its replayed position, and our connections there."""

    name: str
    is_in_rotation: bool
    replayed: Position | None
    # Connections of this process in use there.
    busy: int
    # Whether a connection is available without a wait.
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

    Least busy rather than least lagged: the position guarantees the writes to show, so the rest is
    load balancing. Equally busy ones take turns if the caller rotates the order. A `preferred`
    replica, that of the request's last read, is taken however busy it is. A replica whose
    connection needs a wait is chosen only if the primary's does, too.
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
