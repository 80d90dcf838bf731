"""Route reads: choose the server of a read, for the request or job that this code runs for.

A model's attribute `read_scope` names the writes that a read of it must not miss: ACCOUNT (the rows
of an account) or SHARED (rows that staff change and all accounts read). A model without it is
always read from the primary. Reads of ACCOUNT go to a replica only in a request that changes
nothing (GET and HEAD) and in a job's chain; a request that writes reads the latest rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from psycopg_pool import PoolTimeout

from scaling.replicas import metrics
from scaling.replicas.backend import pools
from scaling.replicas.decision import PRIMARY, Choice, choose
from scaling.replicas.last_writes import LAST_WRITES, SHARED_SCOPE, UNKNOWN
from scaling.replicas.position import CURRENT_POSITION, Position
from scaling.replicas.topology import TOPOLOGY
from scaling.response_cache.invalidation import TRUST

if TYPE_CHECKING:
    from scaling.replicas.last_writes import _Unknown

T = TypeVar("T")

logger = logging.getLogger(__name__)

ACCOUNT = "account"
SHARED = "shared"
HEADER = "x-headrace-position"
# How long an answer waits for a primary that was lost after it committed: about a failover.
WAIT_SECONDS = 3.0
WAIT_STEP_SECONDS = 0.05
# Reasons for which a read of SHARED would go to the primary, though replicas are in rotation.
LATE = frozenset({"behind", "unknown"})


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
        "_failed_at",
        "_is_second_round",
        "_preferred",
        "_required",
        "_rereads_positions",
        "account",
        "failed_replicas",
        "has_committed",
        "is_admin",
        "is_late",
        "last_server",
        "position",
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
        self._preferred = ""
        # The server of the last read, and the replicas that a read failed on.
        self.last_server = ""
        self.failed_replicas: set[str] = set()
        # When the first of them did, by time.monotonic().
        self._failed_at = 0.0
        self._is_second_round = False
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
        self.position = _later(self.position, min_position)

    def choose(self, scope: str) -> Choice:
        """Choose the server of a read.

        Keys and chains are read from a late replica while the primary does not answer: else one
        change of staff's that no replica has would stop all requests.
        """
        choice = self._choose(scope)
        if scope == SHARED and choice.reason in LATE and TOPOLOGY.primary.is_in_doubt:
            late = self._choose_replica(None)
            if late.server != PRIMARY:
                choice = late._replace(reason="late")
        return choice

    def _choose(self, scope: str) -> Choice:
        if self.is_admin:
            return Choice(PRIMARY, "page")
        if self.wrote or self.wrote_shared:
            return Choice(PRIMARY, "writes")
        if scope == ACCOUNT and not (self.account and self.reads_replicas):
            return Choice(PRIMARY, "latest")
        if not TOPOLOGY.has_serving_replica():
            return Choice(PRIMARY, "none")
        required = self._required_for(SHARED_SCOPE if scope == SHARED else self.account)
        if required is UNKNOWN:
            # The caller can have seen no more than the position it sent, or its own writes.
            if self.position is None or scope == SHARED:
                return Choice(PRIMARY, "unknown")
            required = None
        must_show = _later(required, self.position)  # type: ignore[arg-type]
        return self._choose_replica(must_show)

    def _choose_replica(self, must_show: Position | None) -> Choice:
        choice = _choose_ready(
            must_show, preferred=self._preferred, failed_replicas=self.failed_replicas
        )
        is_last_resort = choice.server == PRIMARY and TOPOLOGY.primary.is_in_doubt
        # Each attempt may have waited for a pool; in all no request waits for two.
        is_soon = time.monotonic() - self._failed_at < settings.DATABASE_POOL["timeout"]
        if is_last_resort and self.failed_replicas and is_soon and not self._is_second_round:
            # A read that failed on a replica may have failed by one connection.
            self._is_second_round = True
            self.failed_replicas.clear()
            choice = _choose_ready(must_show)
        self._preferred = choice.server
        return choice

    def can_repeat(self) -> bool:
        """Return whether a read that failed may succeed on another server; count it.

        The replica that it failed on is not chosen again, and at last the primary is. While the
        primary does not answer, each replica gets a second attempt before.
        """
        is_forced = _read_target.get() is ReadTarget.PRIMARY
        if is_forced or self.last_server in {"", PRIMARY, *self.failed_replicas}:
            return False
        self._failed_at = self._failed_at or time.monotonic()
        self.failed_replicas.add(self.last_server)
        metrics.READS_REPEATED.inc()
        return True

    def mark_published(self, position: Position) -> None:
        """Reset the state of writes, all of which are published at this position."""
        self.wrote = self.wrote_shared = self.has_committed = False
        self.position = _later(self.position, position)

    def _required_for(self, scope: str) -> Position | _Unknown | None:
        if self._rereads_positions or scope not in self._required:
            self._required[scope] = LAST_WRITES.required(scope)
        return self._required[scope]


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


def server_for(scope: str) -> str:
    """Return the alias of a read's server, from memory and at most one round trip to Redis."""
    if not TOPOLOGY.replicas:
        return PRIMARY
    choice = _choice(scope)
    metrics.READS.labels(choice.server, choice.reason).inc()
    if (server := TOPOLOGY.server(choice.server)) is not None:
        server.reads += 1
    if (context := _context.get()) is not None:
        context.servers.add(choice.server)
        context.last_server = choice.server
        context.is_late = choice.reason == "late"
    return choice.server


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


def mark_committed() -> None:
    """Mark the writes so far as committed.

    A command's shared writes are published at once: it has no end of a request that would do it.
    """
    context = _context.get()
    if context is None or not context.wrote:
        return
    context.has_committed = True
    if context.is_admin and context.wrote_shared:
        publish_position()


def publish_position(accounts: Iterable[str] = (), *, wait_seconds: float = 0.0) -> Position | None:
    """Publish the position of the writes so far, so that later reads on any node show them.

    Call it before the writes are acknowledged. `accounts` are those whose rows a worker wrote; a
    request's own is in its context. Inside a transaction theirs is published after the commit.
    Returns the position, or None if none is published now. Costs one query and one round trip to
    Redis. A primary that was lost just after it committed has no position to read: with
    `wait_seconds` this waits for it, or for the next primary, and at last raises OperationalError,
    so that no write is acknowledged that replicas may not show; else nothing is raised.
    """
    context = _context.get()
    of_others = list(accounts)
    scopes = list(of_others)
    if context is not None and context.wrote:
        scopes += [context.account] if context.account else []
        scopes += [SHARED_SCOPE] if context.wrote_shared else []
    connection = connections[DEFAULT_DB_ALIAS]
    is_possible = settings.HAS_REPLICAS and not TRUST.is_cut_off
    if not scopes or not is_possible:
        return None
    if connection.in_atomic_block:
        # A request's own writes are published at its end.
        if of_others:
            connection.on_commit(partial(publish_position, of_others))
        return None
    must_publish = bool(wait_seconds and context is not None and context.has_committed)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            with connection.cursor() as cursor:
                cursor.execute(CURRENT_POSITION)
                position = Position.from_row(cursor.fetchone())
            break
        except (OperationalError, PoolTimeout) as error:
            if not must_publish or time.monotonic() >= deadline:
                logger.warning("the position of a write is unknown: %s", error)
                if must_publish:
                    raise
                return None
        connection.close()
        time.sleep(WAIT_STEP_SECONDS)
    # The wait for Redis needs no connection.
    connection.close()
    LAST_WRITES.record(scopes, position)
    if context is not None:
        context.mark_published(position)
    return position


def repeated_elsewhere(read: Callable[[], T]) -> T:
    """Return the result of `read`; while it fails on a replica, repeat it on another server.

    The last one is the primary. A row that a late replica lacks may be there: an empty result of a
    late replica counts as a failure.
    """
    context = _context.get()
    token = None
    if context is None:
        context = ReadContext()
        token = _context.set(context)
    try:
        while True:
            try:
                found = read()
                if not found and context.is_late:
                    raise OperationalError("a late replica lacks it; the primary is unavailable")
                return found
            except (OperationalError, PoolTimeout):
                if not context.can_repeat():
                    raise
    finally:
        if token is not None:
            _context.reset(token)


def _choice(scope: str) -> Choice:
    if connections[PRIMARY].in_atomic_block:
        return Choice(PRIMARY, "transaction")
    context = _context.get() or ReadContext()
    match _read_target.get():
        case ReadTarget.PRIMARY:
            return Choice(PRIMARY, "forced")
        case ReadTarget.REPLICA:
            return _choose_ready(None, failed_replicas=context.failed_replicas)
    return context.choose(scope)


def _choose_ready(
    required: Position | None, *, preferred: str = "", failed_replicas: Collection[str] = ()
) -> Choice:
    """Choose a replica whose pool has a connection; grow the pool of a better one without any."""
    candidates = TOPOLOGY.candidates(pools.has_idle)
    choice = choose(
        (candidate for candidate in candidates if candidate.name not in failed_replicas),
        required,
        preferred=preferred,
        # A frozen primary's idle connections are frozen too.
        is_primary_ready=not TOPOLOGY.primary.is_in_doubt and pools.has_idle(PRIMARY),
    )
    if choice.wanted:
        pools.grow(choice.wanted)
    return choice


def _later(first: Position | None, second: Position | None) -> Position | None:
    if first is None or second is None:
        return first or second
    return max(first, second)
