"""What a request or job has read and written so far, and where code inside it chose to read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING

from scaling.replicas import metrics
from scaling.replicas.decision import PRIMARY
from scaling.replicas.last_writes import LAST_WRITES, UNKNOWN
from scaling.replicas.position import Position, later_of

if TYPE_CHECKING:
    from scaling.replicas.last_writes import _Unknown


class ReadTarget(Enum):
    """The server that code has chosen for its reads."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Recording(Enum):
    """Whether later reads must show the writes of this code."""

    ON = "on"
    OFF = "off"


class ReadContext:
    """The account that this code reads and writes for, and the state of its writes."""

    __slots__ = (
        "_required",
        "_rereads_positions",
        "account",
        "failed_at",
        "failed_replicas",
        "has_committed",
        "is_admin",
        "is_late",
        "is_second_round",
        "last_server",
        "position",
        "preferred",
        "reads_replicas",
        "servers",
        "wrote",
        "wrote_shared",
    )

    def __init__(self, *, is_admin: bool = False, rereads_positions: bool = False) -> None:
        # Staff's pages show the rows of all accounts, so that no account's position would do.
        self.is_admin = is_admin
        # A job may run for hours, and its next read shows other writes of its account: Redis is
        # read for each.
        self._rereads_positions = rereads_positions
        # The replica of the last read: a request reads from one, while that is recent enough.
        self.preferred = ""
        # The server of the last read, and the replicas that a read failed on.
        self.last_server = ""
        self.failed_replicas: set[str] = set()
        # When the first of them did, by time.monotonic().
        self.failed_at = 0.0
        self.is_second_round = False
        # Whether that server may lack shared writes.
        self.is_late = False
        self.wrote = False
        self.wrote_shared = False
        # Whether any of these writes is committed, and not only attempted.
        self.has_committed = False
        # The position of its last write.
        self.position: Position | None = None
        self.servers: set[str] = set()
        self.account = ""
        self.reads_replicas = False
        self._required: dict[str, Position | _Unknown | None] = {}

    def bind_account(
        self, account: str, *, reads_replicas: bool, min_position: Position | None = None
    ) -> None:
        """Publish writes as this account's.

        With `reads_replicas`, read its rows from replicas that show its writes, and `min_position`.
        """
        self.account = account
        self.reads_replicas = reads_replicas
        self.position = later_of(self.position, min_position)

    def can_repeat(self) -> bool:
        """Return whether a read that failed may succeed on another server; count it.

        The replica that it failed on is not chosen again, and at last the primary is. While the
        primary does not answer, each replica gets a second attempt before.
        """
        is_forced = _read_target.get() is ReadTarget.PRIMARY
        if is_forced or self.last_server in {"", PRIMARY, *self.failed_replicas}:
            return False
        self.failed_at = self.failed_at or time.monotonic()
        self.failed_replicas.add(self.last_server)
        metrics.READS_REPEATED.inc()
        return True

    def mark_published(self, position: Position) -> None:
        """Reset the state of writes, all of which are published at this position."""
        self.wrote = self.wrote_shared = self.has_committed = False
        self.position = later_of(self.position, position)

    def required_for(self, scope: str) -> Position | _Unknown | None:
        """Return the position that a read of this scope must show, read from Redis at most once.

        A job's context reads it for each read, and any one that is UNKNOWN again.
        """
        known = self._required.get(scope, UNKNOWN)
        if self._rereads_positions or known is UNKNOWN:
            known = self._required[scope] = LAST_WRITES.required(scope)
        return known


_context: ContextVar[ReadContext | None] = ContextVar("read_context", default=None)
_read_target: ContextVar[ReadTarget | None] = ContextVar("read_target", default=None)
_recording: ContextVar[Recording] = ContextVar("recording", default=Recording.ON)


def start_request(*, is_admin: bool = False) -> ReadContext:
    """Start a request with a new context, without the reads and writes of an earlier one."""
    context = ReadContext(is_admin=is_admin)
    _context.set(context)
    return context


def current_context() -> ReadContext | None:
    """Return the context of this code; None in a command or a worker's own work."""
    return _context.get()


def activate(context: ReadContext) -> None:
    """Read and write in this context from here on, as a job's chain does."""
    _context.set(context)


def deactivate() -> None:
    """Read and write without a context from here on, as a command does."""
    _context.set(None)


def read_target() -> ReadTarget | None:
    """Return the server that the code around this has chosen."""
    return _read_target.get()


@contextmanager
def primary() -> Iterator[None]:
    """Read from the primary in here."""
    token = _read_target.set(ReadTarget.PRIMARY)
    try:
        yield
    finally:
        _read_target.reset(token)


@contextmanager
def replica() -> Iterator[None]:
    """Read from any replica in rotation in here, however late; inside a transaction never."""
    token = _read_target.set(ReadTarget.REPLICA)
    try:
        yield
    finally:
        _read_target.reset(token)


@contextmanager
def unrecorded() -> Iterator[None]:
    """Write rows in here that no later read must show, such as the time of a key's last use."""
    token = _recording.set(Recording.OFF)
    try:
        yield
    finally:
        _recording.reset(token)


def mark_written(*, is_shared: bool = False) -> None:
    """Mark a write on the primary as done or about to be done."""
    if _recording.get() is Recording.OFF:
        return
    context = _context.get()
    if context is None:
        # A command, or a worker's own work: only its shared writes matter to other processes.
        if not is_shared:
            return
        context = start_request(is_admin=True)
    context.wrote = True
    context.wrote_shared = context.wrote_shared or is_shared
