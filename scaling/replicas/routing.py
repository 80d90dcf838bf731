"""Which server a read goes to, for the request or job that this code runs for.

A model says in its attribute `read_scope` whose writes a read must not miss: ACCOUNT (the rows of
an account's own) or SITE_WIDE (what staff change and everybody reads). A model without it is always
read from the primary. Reads of ACCOUNT go to a replica only in a request that changes nothing (GET
and HEAD) and in a job's chain; what a request reads in order to write must be the latest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from psycopg_pool import PoolTimeout

from scaling.replicas import metrics
from scaling.replicas.backend import pools
from scaling.replicas.decision import PRIMARY, Choice, choose
from scaling.replicas.last_writes import POSITIONS, SITE, UNKNOWN
from scaling.replicas.position import CURRENT_POSITION, Position
from scaling.replicas.topology import TOPOLOGY
from scaling.response_cache.invalidation import TRUST

if TYPE_CHECKING:
    from scaling.replicas.last_writes import _Unknown

T = TypeVar("T")

logger = logging.getLogger(__name__)

ACCOUNT = "account"
SITE_WIDE = "site"
HEADER = "x-headrace-position"
# How long an answer waits for a primary that was lost after it committed: about a failover.
WAIT_SECONDS = 3.0
WAIT_STEP_SECONDS = 0.05
# Why a read that all do alike would go to the primary, though replicas are in rotation.
LATE = frozenset({"behind", "unknown"})


class Reader:
    """On whose behalf this code reads and writes, and what it has written."""

    __slots__ = (
        "_is_long",
        "_is_second_round",
        "_last",
        "_required",
        "account",
        "asked",
        "has_committed",
        "is_late",
        "is_page",
        "position",
        "reads_replicas",
        "servers",
        "unfit",
        "wrote",
        "wrote_site",
    )

    def __init__(self, *, is_page: bool = False, is_long: bool = False) -> None:
        # Staff's pages show everybody's rows, so that no account's position would do.
        self.is_page = is_page
        # A job may run for hours: what others write for its account meanwhile is seen by its next
        # read, so that Redis is asked for each.
        self._is_long = is_long
        # The replica of the read before: one request reads from one, while that shows enough.
        self._last = ""
        # The server of the read before, and the replicas that a read failed on.
        self.asked = ""
        self.unfit: set[str] = set()
        self._is_second_round = False
        # Whether that server may lack what everybody must see.
        self.is_late = False
        self.wrote = False
        self.wrote_site = False
        # Whether something of that is surely done, and not only tried.
        self.has_committed = False
        # Where its last write stands.
        self.position: Position | None = None
        self.servers: set[str] = set()
        self.account = ""
        self.reads_replicas = False
        self._required: dict[str, Position | _Unknown | None] = {}

    def serve(self, account: str, *, reads_replicas: bool, floor: Position | None = None) -> None:
        """Record writes as this account's.

        With `reads_replicas`, read its rows from replicas that show its writes, and `floor`.
        """
        self.account = account
        self.reads_replicas = reads_replicas
        self.position = _later(self.position, floor)

    def choose(self, scope: str) -> Choice:
        """Choose the server of a read.

        Keys and chains are read from a late replica while the primary does not answer: else one
        change of staff's that no replica has stops everybody.
        """
        choice = self._choose(scope)
        if scope == SITE_WIDE and choice.reason in LATE and TOPOLOGY.primary.is_in_doubt:
            late = self._choose_replica(None)
            if late.server != PRIMARY:
                choice = late._replace(reason="late")
        return choice

    def _choose(self, scope: str) -> Choice:
        if self.is_page:
            return Choice(PRIMARY, "page")
        if self.wrote or self.wrote_site:
            return Choice(PRIMARY, "writes")
        if scope == ACCOUNT and not (self.account and self.reads_replicas):
            return Choice(PRIMARY, "latest")
        if not TOPOLOGY.has_rotation():
            return Choice(PRIMARY, "none")
        required = self._required_for(SITE if scope == SITE_WIDE else self.account)
        if required is UNKNOWN:
            # What the caller brings along or wrote itself is all that it can have seen.
            if self.position is None or scope == SITE_WIDE:
                return Choice(PRIMARY, "unknown")
            required = None
        must_show = _later(required, self.position)  # type: ignore[arg-type]
        return self._choose_replica(must_show)

    def _choose_replica(self, must_show: Position | None) -> Choice:
        choice = _choose_ready(must_show, preferred=self._last, unfit=self.unfit)
        is_last_resort = choice.server == PRIMARY and TOPOLOGY.primary.is_in_doubt
        if is_last_resort and self.unfit and not self._is_second_round:
            # What failed at a replica may have been one connection.
            self._is_second_round = True
            self.unfit.clear()
            choice = _choose_ready(must_show)
        self._last = choice.server
        return choice

    def can_repeat(self) -> bool:
        """Return whether a read that failed may succeed on another server; count it.

        The replica that it failed on is not chosen again, and in the end the primary is. While the
        primary does not answer, each replica is tried a second time before.
        """
        if _forced.get() == "primary" or self.asked in {"", PRIMARY, *self.unfit}:
            return False
        self.unfit.add(self.asked)
        metrics.READS_REPEATED.inc()
        return True

    def wrote_at(self, position: Position) -> None:
        """Note that all that was written is recorded at this position."""
        self.wrote = self.wrote_site = self.has_committed = False
        self.position = _later(self.position, position)

    def _required_for(self, scope: str) -> Position | _Unknown | None:
        if self._is_long or scope not in self._required:
            self._required[scope] = POSITIONS.required(scope)
        return self._required[scope]


_reader: ContextVar[Reader | None] = ContextVar("reader", default=None)
_forced: ContextVar[str] = ContextVar("forced_server", default="")


def begin(*, is_page: bool = False) -> Reader:
    """Begin a request: nothing that an earlier one in this greenlet read or wrote counts."""
    reader = Reader(is_page=is_page)
    _reader.set(reader)
    return reader


def current_reader() -> Reader | None:
    """Return on whose behalf this code runs; None in a command or a worker's own work."""
    return _reader.get()


def use(reader: Reader) -> None:
    """Read and write on this reader's behalf from here on, as a job's chain does."""
    _reader.set(reader)


@contextmanager
def primary() -> Iterator[None]:
    """Read from the primary in here."""
    token = _forced.set("primary")
    try:
        yield
    finally:
        _forced.reset(token)


@contextmanager
def replica() -> Iterator[None]:
    """Read from any replica in rotation in here, however late; inside a transaction never."""
    token = _forced.set("replica")
    try:
        yield
    finally:
        _forced.reset(token)


@contextmanager
def unrecorded() -> Iterator[None]:
    """Write in here what no later read must see, such as the time of a key's last use."""
    token = _forced.set("unrecorded")
    try:
        yield
    finally:
        _forced.reset(token)


def server_for(scope: str) -> str:
    """Return the alias of the server that a read goes to, by memory and one question to Redis."""
    if not TOPOLOGY.replicas:
        return PRIMARY
    choice = _choice(scope)
    metrics.READS.labels(choice.server, choice.reason).inc()
    if (server := TOPOLOGY.server(choice.server)) is not None:
        server.reads += 1
    if (reader := _reader.get()) is not None:
        reader.servers.add(choice.server)
        reader.asked = choice.server
        reader.is_late = choice.reason == "late"
    return choice.server


def note_write(*, is_site: bool = False) -> None:
    """Note that something was, or is about to be, written on the primary."""
    if _forced.get() == "unrecorded":
        return
    reader = _reader.get()
    if reader is None:
        # A command, or a worker's own work: only what everybody reads matters to others.
        if not is_site:
            return
        reader = begin(is_page=True)
    reader.wrote = True
    reader.wrote_site = reader.wrote_site or is_site


def note_done() -> None:
    """Note that what was written is committed.

    What a command wrote for everybody is recorded at once: no request's end will do it.
    """
    reader = _reader.get()
    if reader is None or not reader.wrote:
        return
    reader.has_committed = True
    if reader.is_page and reader.wrote_site:
        record()


def record(accounts: Iterable[str] = (), *, wait_seconds: float = 0.0) -> Position | None:
    """Have later reads, on any node, see what was written; call it before anybody is told of it.

    `accounts` are those whose rows a worker wrote; a request's own is known. Inside a transaction
    theirs is recorded when that is committed. Returns the position, or None if nothing is recorded
    now. Costs one query and one round trip to Redis. A primary that was lost just after it
    committed tells no position: with `wait_seconds` it, or the one that follows it, is waited for,
    and OperationalError is raised in the end, so that nobody is told of a write that replicas may
    not show; else nothing is raised.
    """
    reader = _reader.get()
    of_others = list(accounts)
    scopes = list(of_others)
    if reader is not None and reader.wrote:
        scopes += [reader.account] if reader.account else []
        scopes += [SITE] if reader.wrote_site else []
    connection = connections[DEFAULT_DB_ALIAS]
    is_possible = settings.HAS_REPLICAS and not TRUST.is_cut_off
    if not scopes or not is_possible:
        return None
    if connection.in_atomic_block:
        # A request's own writes are recorded by its end.
        if of_others:
            connection.on_commit(partial(record, of_others))
        return None
    must_know = bool(wait_seconds and reader is not None and reader.has_committed)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            with connection.cursor() as cursor:
                cursor.execute(CURRENT_POSITION)
                position = Position.from_row(cursor.fetchone())
            break
        except (OperationalError, PoolTimeout) as error:
            if not must_know or time.monotonic() >= deadline:
                logger.warning("the position of a write is unknown: %s", error)
                if must_know:
                    raise
                return None
        connection.close()
        time.sleep(WAIT_STEP_SECONDS)
    # Redis may let it wait.
    connection.close()
    POSITIONS.record(scopes, position)
    if reader is not None:
        reader.wrote_at(position)
    return position


def repeated_elsewhere(read: Callable[[], T]) -> T:
    """Return what `read` returns; as long as it fails on a replica, do it again on another server.

    In the end that is the primary. What a late replica does not have may be there: then its word
    is a failure.
    """
    reader = _reader.get()
    token = None
    if reader is None:
        reader = Reader()
        token = _reader.set(reader)
    try:
        while True:
            try:
                found = read()
                if not found and reader.is_late:
                    raise OperationalError("a late replica lacks it; the primary is unavailable")
                return found
            except (OperationalError, PoolTimeout):
                if not reader.can_repeat():
                    raise
    finally:
        if token is not None:
            _reader.reset(token)


def _choice(scope: str) -> Choice:
    if connections[PRIMARY].in_atomic_block:
        return Choice(PRIMARY, "transaction")
    reader = _reader.get() or Reader()
    match _forced.get():
        case "primary":
            return Choice(PRIMARY, "forced")
        case "replica":
            return _choose_ready(None, unfit=reader.unfit)
    return reader.choose(scope)


def _choose_ready(
    required: Position | None, *, preferred: str = "", unfit: Collection[str] = ()
) -> Choice:
    """Choose a replica whose pool has a connection, and have that of another grow that has none."""
    candidates = TOPOLOGY.candidates(pools.has_idle)
    choice = choose(
        (candidate for candidate in candidates if candidate.name not in unfit),
        required,
        preferred=preferred,
        # A frozen primary's idle connections are as frozen.
        is_primary_ready=not TOPOLOGY.primary.is_in_doubt and pools.has_idle(PRIMARY),
    )
    if choice.wanted:
        pools.grow(choice.wanted)
    return choice


def _later(first: Position | None, second: Position | None) -> Position | None:
    if first is None or second is None:
        return first or second
    return max(first, second)
