"""Cached answers in Memcached, on one server or on several.

Each key lives on one server, by rendezvous hashing, and the generations on one of them. A server
that is unavailable is left alone for REDIS_RETRY_SECONDS; keys do not move to others in that time,
so that a lock is never on two servers. A call costs one round trip a server; locks' `renew_if` and
`delete_if` and a bump of a generation cost two.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import re
import threading
from typing import TYPE_CHECKING, TypeVar, cast

import orjson
from django.conf import settings
from prometheus_client import Counter
from pymemcache.client.base import Client
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
)

from config.cache_urls import memcached_servers
from scaling.database_clock import CLOCK
from scaling.fair_semaphore import FairSemaphore
from scaling.redis_client import MAX_AT_ONCE, MAX_WAIT_SECONDS, Breaker, RedisUnavailable
from scaling.response_cache.store import ALL, MAX_GENERATIONS, NotSupported, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from config.cache_urls import Address

T = TypeVar("T")

logger = logging.getLogger(__name__)

PREFIX = "headrace:cache:"
GENERATIONS_KEY = f"{PREFIX}marks"
# An item may have 1 MiB, with its key and its header, unless the server has another limit.
MAX_VALUE_BYTES = 1024 * 1024 - 1024
# A larger number of seconds is a Unix time to Memcached.
LONGEST_RELATIVE_SECONDS = 30 * 24 * 3600
# Other processes that bump generations at the same moment cost one more attempt each.
BUMP_ATTEMPTS = 50
# The protocol's limit is 250 characters, and some of them would end a command.
_SAFE_KEY = re.compile(r"[!-~]{1,200}")

FAILURES = Counter(
    "headrace_memcached_failures",
    "Calls to Memcached that failed, by kind: timeout, connection, busy, refused or garbage.",
    ["kind"],
)
TOO_LARGE = Counter(
    "headrace_cache_too_large",
    "Answers that were not cached because the store takes none of their size.",
)

# The last two are the library's, for answers that it cannot read.
_FAILURES = (MemcacheError, OSError, ValueError, LookupError)


class _Refused(Exception):
    """The server is available, and refuses the command."""


class _Server:
    """One server: its connections, the breaker before it, and the queue of its callers."""

    def __init__(self, address: Address) -> None:
        self.name = f"{address[0]}:{address[1]}"
        self._address = address
        self._breaker = Breaker()
        self._semaphore = FairSemaphore(MAX_AT_ONCE)
        # The library's own pool never takes back the connection of a killed greenlet.
        self._idle: list[Client] = []

    def run(self, work: Callable[[Client], T]) -> T:
        """Return `work(client)`; raises StoreUnavailable, or _Refused."""
        if not self._semaphore.acquire(timeout_seconds=MAX_WAIT_SECONDS):
            FAILURES.labels("busy").inc()
            raise StoreUnavailable(
                "this process has too many calls of Memcached", may_have_run=False
            )
        try:
            return self._call_server(work)
        finally:
            self._semaphore.release()

    def _call_server(self, work: Callable[[Client], T]) -> T:
        try:
            is_probe = self._breaker.enter()
        except RedisUnavailable as error:
            raise StoreUnavailable("Memcached failed a moment ago", may_have_run=False) from error
        try:
            result = self._with_client(work)
        except _Refused:
            FAILURES.labels("refused").inc()
            if is_probe:
                self._breaker.succeed()
            raise
        except _FAILURES as error:
            FAILURES.labels(_kind(error)).inc()
            self._close_idle()
            if self._breaker.fail(settings.REDIS_RETRY_SECONDS):
                logger.warning("memcached %s is unavailable, doing without: %s", self.name, error)
            raise StoreUnavailable(str(error), may_have_run=True) from error
        else:
            if is_probe:
                self._breaker.succeed()
                logger.warning("memcached %s is back", self.name)
            return result
        finally:
            if is_probe:
                self._breaker.end_probe()

    def _with_client(self, work: Callable[[Client], T]) -> T:
        try:
            client = self._idle.pop()
        except IndexError:
            client = self._connect()
        is_reply_read = False
        try:
            result = work(client)
            is_reply_read = True
        except MemcacheUnexpectedCloseError:
            raise
        except (MemcacheServerError, MemcacheClientError) as error:
            raise _Refused(_text(error)) from error
        finally:
            # After anything else, a killed greenlet too, a reply may still be on its way.
            if is_reply_read:
                self._idle.append(client)
            else:
                client.close()
        return result

    def _close_idle(self) -> None:
        # Another server may have the name by now; each connection would cost a timeout.
        while self._idle:
            self._idle.pop().close()

    def _connect(self) -> Client:
        return Client(
            self._address,
            connect_timeout=settings.REDIS_TIMEOUT_SECONDS,
            timeout=settings.REDIS_TIMEOUT_SECONDS,
            no_delay=True,
            default_noreply=False,
        )


class MemcachedStore:
    """A `Store` on Memcached servers."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._servers = {server.name: server for server in map(_Server, addresses)}
        self._ring = RendezvousHash(list(self._servers))
        self._bumping = threading.Lock()

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values in the order of the keys; raises if a server of theirs is down."""
        names = [_name(key) for key in keys]
        by_server: dict[_Server, list[str]] = {}
        for name in names:
            by_server.setdefault(self._server(name), []).append(name)
        found: dict[str, bytes] = {}
        for server, wanted in by_server.items():
            found |= _call(server, functools.partial(_get_many, names=wanted))
        return [found.get(name) for name in names]

    def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        """Store a value; one above the server's limit is counted, and its key deleted."""
        name = _name(key)
        if len(value) > MAX_VALUE_BYTES:
            TOO_LARGE.inc()
            self.delete(key)
            return
        server, expires = self._server(name), _expiry(ttl_seconds)
        try:
            server.run(lambda client: client.set(name, value, expire=expires))
        except _Refused as refused:
            # A server may have a smaller limit; it has deleted the key then.
            if "too large" not in str(refused):
                raise StoreUnavailable(str(refused), may_have_run=True) from refused
            TOO_LARGE.inc()

    def set_many(self, keys: Sequence[str], value: bytes, ttl_seconds: float) -> None:
        """Store one value under several keys, one after the other."""
        for key in keys:
            self.set(key, value, ttl_seconds)

    def delete(self, key: str) -> None:
        """Delete a key."""
        name = _name(key)
        _call(self._server(name), functools.partial(_delete, name=name))

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Take a lock; it may last up to two seconds longer, as Memcached counts in seconds."""
        name, expires = _name(key), _expiry(ttl_seconds)
        return bool(
            _call(self._server(name), lambda client: client.add(name, value, expire=expires))
        )

    def renew_if(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Prolong a lock."""
        return self._swap(_name(key), value, _expiry(ttl_seconds))

    def delete_if(self, key: str, value: bytes) -> bool:
        """Release a lock."""
        # The text protocol deletes unconditionally; an item that has expired is gone as well.
        return self._swap(_name(key), value, -1)

    def read_generations(self) -> dict[str, int]:
        """Return all generation counters by name."""
        server = self._server(GENERATIONS_KEY)
        generations = _parse_generations(_call(server, lambda client: client.get(GENERATIONS_KEY)))
        return generations if generations is not None else self._change_generations(None)

    def bump_generation(self, name: str) -> None:
        """Begin a new generation."""
        # Then only other processes can win the race.
        with self._bumping:
            self._change_generations(name)

    def count(self) -> Iterator[list[tuple[str, int]]]:
        """Raise NotSupported: Memcached does not list its keys."""
        raise NotSupported("Memcached does not list its keys")

    def _server(self, name: str) -> _Server:
        return self._servers[self._ring.get_node(name)]

    def _swap(self, name: str, value: bytes, expires: int) -> bool:
        def work(client: Client) -> bool:
            found, token = client.gets(name)
            return found == value and bool(client.cas(name, value, token, expire=expires))

        return _call(self._server(name), work)

    def _change_generations(self, name: str | None) -> dict[str, int]:
        """Bump a generation, or create the counters where there are none; return them all."""
        server = self._server(GENERATIONS_KEY)

        def work(client: Client) -> dict[str, int] | None:
            value, token = client.gets(GENERATIONS_KEY)
            generations = _bumped(_parse_generations(value), name)
            data = orjson.dumps(generations)
            if value is None:
                return generations if client.add(GENERATIONS_KEY, data) else None
            return generations if client.cas(GENERATIONS_KEY, data, token) else None

        for _ in range(BUMP_ATTEMPTS):
            generations = _call(server, work)
            if generations is not None:
                return generations
        raise StoreUnavailable("others bump generations all the time", may_have_run=False)


def make_store() -> MemcachedStore:
    """Return the store on the servers of CACHE_URL."""
    return MemcachedStore(memcached_servers("CACHE_URL", settings.CACHE_URL))


def _call(server: _Server, work: Callable[[Client], T]) -> T:
    try:
        return server.run(work)
    except _Refused as refused:
        raise StoreUnavailable(str(refused), may_have_run=True) from refused


def _get_many(client: Client, names: list[str]) -> dict[str, bytes]:
    return cast("dict[str, bytes]", client.get_many(names))


def _delete(client: Client, name: str) -> None:
    # The library's own `delete` takes every reply it does not understand for "not found".
    if client.raw_command(f"delete {name}") not in (b"DELETED", b"NOT_FOUND"):
        raise ValueError("not an answer to a delete")


def _name(key: str) -> str:
    if _SAFE_KEY.fullmatch(key):
        return f"{PREFIX}value:{key}"
    return f"{PREFIX}hash:{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"


def _expiry(ttl_seconds: float) -> int:
    # The server's clock ticks once a second, so that the first second may be nearly over: one more,
    # and nothing ends before its time. Each entry has its own time of expiry.
    seconds = math.ceil(ttl_seconds) + 1
    return seconds if seconds <= LONGEST_RELATIVE_SECONDS else int(CLOCK.now()) + seconds


def _parse_generations(value: bytes | None) -> dict[str, int] | None:
    """Return the counters, or None for anything else, which later ones then replace."""
    try:
        generations = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(generations, dict) or ALL not in generations:
        return None
    return generations if all(type(number) is int for number in generations.values()) else None


def _bumped(generations: dict[str, int] | None, name: str | None) -> dict[str, int]:
    if generations is None:
        # Later than every generation that was lost, so the bump is in it.
        return {ALL: int(CLOCK.now() * 1000)}
    if name is None:
        return generations
    bumped = {**generations, name: generations.get(name, 0) + 1}
    if len(bumped) > MAX_GENERATIONS or len(orjson.dumps(bumped)) > MAX_VALUE_BYTES:
        return {ALL: generations[ALL] + 1}
    return bumped


def _kind(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError | MemcacheUnexpectedCloseError):
        return "connection"
    return "garbage"


def _text(error: Exception) -> str:
    # The library passes on bytes.
    text = error.args[0] if error.args else ""
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
