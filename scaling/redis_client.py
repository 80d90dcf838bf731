"""The way to Redis for everything on a request's path: quick, or not at all.

A request waits for Redis at most about `REDIS_TIMEOUT_SECONDS`: connections come from the pool of
django-redis, which gives redis-py no retry policy, so that a command is tried once. (Two timeouts
when a new connection must first be made; a server that dribbles one byte at a time can stretch
each step of a new connection's handshake to one timeout.) After a failure nobody asks for
`REDIS_RETRY_SECONDS`, then one caller at a time probes. A process asks at most `MAX_AT_ONCE`
questions at once; more than that wait for their turn, at most `MAX_WAIT_SECONDS`.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.conf import settings
from django_redis import get_redis_connection
from prometheus_client import Counter
from redis import exceptions

from config.redis_connections import ReadOnlyServer
from scaling.fair_semaphore import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import Redis
    from redis.client import Pipeline

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Hundreds of greenlets may want Redis in the same millisecond. A connection for each would be a
# storm of handshakes, and beyond the hundred that redis-py's pool allows, an error.
MAX_AT_ONCE = 64
# Longer than a timeout: what passes here is our own work, not Redis's. Once the breaker opens, all
# who wait are through at once.
MAX_WAIT_SECONDS = 0.5

FAILURES = Counter(
    "headrace_redis_failures",
    "Calls to Redis that failed, by kind: timeout, connection, readonly, auth, busy, refused or"
    " garbage.",
    ["kind"],
)


_FAILURES = (
    exceptions.RedisError,
    # A cluster's client has a base class of its own for what it finds out by itself.
    exceptions.RedisClusterException,
    OSError,
    ValueError,
    # redis-py takes it on trust that answers to its handshake have their shape.
    AttributeError,
    LookupError,
    TypeError,
)
_CONNECTION_ERRORS = (
    exceptions.ConnectionError,
    exceptions.ClusterDownError,
    exceptions.RedisClusterException,
    OSError,
)


class RedisUnavailable(Exception):
    """Redis gave no usable answer; do without it.

    `was_asked` False means that the command surely never left; True that it may have run.
    """

    def __init__(self, message: str, *, was_asked: bool) -> None:
        super().__init__(message)
        self.was_asked = was_asked


class Breaker:
    """Remember that a server is away, so that only few callers pay for finding out.

    Invariant: while open, at most one call is under way, and none starts within the retry time
    after a failure. Only such a probe's success closes it; the late success of a call that began
    before the failure says nothing.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._retry_at: float | None = None
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are being refused."""
        return self._retry_at is not None

    def enter(self) -> bool:
        """Return whether this call is the probe; raises RedisUnavailable when there may be none."""
        if self._retry_at is None:
            return False
        with self._lock:
            if self._retry_at is None:
                return False
            if self._is_probing or self._clock() < self._retry_at:
                raise RedisUnavailable("Redis failed a moment ago", was_asked=False)
            self._is_probing = True
            return True

    def fail(self, retry_seconds: float) -> bool:
        """Stay open for so long; return whether this is news."""
        with self._lock:
            was_closed = self._retry_at is None
            self._retry_at = self._clock() + retry_seconds
            return was_closed

    def succeed(self) -> None:
        """Close again, after a probe."""
        with self._lock:
            self._retry_at = None

    def end_probe(self) -> None:
        """Let the next probe start, however this one ended; a killed greenlet's ends here too."""
        with self._lock:
            self._is_probing = False


class _Server:
    """One of Django's caches, the breaker before it, and who is asking it."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.breaker = Breaker()
        self.turns = Turns(MAX_AT_ONCE)

    @functools.cached_property
    def client(self) -> Redis:
        # One for the process: Django would build a new cache backend for every greenlet. The client
        # is thread-safe, and its pool notices a fork.
        return cast("Redis", get_redis_connection(self.alias))


_servers: dict[str, _Server] = {}


def run(work: Callable[[Redis], T], *, alias: str = "default") -> T:
    """Return `work(client)`; raises RedisUnavailable at once, or after one timeout.

    `alias` names one of Django's caches; the failures of one say nothing about another. A
    ValueError from `work` means that it could not make sense of an answer.
    """
    server = _servers.get(alias) or _servers.setdefault(alias, _Server(alias))
    if not server.turns.acquire(timeout_seconds=MAX_WAIT_SECONDS):
        FAILURES.labels("busy").inc()
        raise RedisUnavailable("too many open calls to Redis", was_asked=False)
    try:
        return _ask(work, server)
    finally:
        server.turns.release()


def _ask(work: Callable[[Redis], T], server: _Server) -> T:
    breaker = server.breaker
    is_probe = breaker.enter()
    try:
        result = work(server.client)
    except exceptions.MaxConnectionsError as error:
        # Our own pool is exhausted, which is no reason to stop those who hold its connections.
        FAILURES.labels("busy").inc()
        raise RedisUnavailable(str(error), was_asked=False) from error
    except exceptions.ClusterDownError as error:
        # It is a response, but says that nobody is there. redis-py slept a quarter of a second.
        raise _failed(error, breaker) from error
    except exceptions.ResponseError as error:
        note_refusal(error)
        if is_probe:
            breaker.succeed()
        raise RedisUnavailable(str(error), was_asked=True) from error
    except _FAILURES as error:
        raise _failed(error, breaker) from error
    else:
        if is_probe:
            breaker.succeed()
            logger.warning("redis is back")
        return result
    finally:
        if is_probe:
            breaker.end_probe()


def _failed(error: Exception, breaker: Breaker) -> RedisUnavailable:
    FAILURES.labels(_kind(error)).inc()
    if breaker.fail(settings.REDIS_RETRY_SECONDS):
        logger.warning("redis is unavailable, bypassing it: %s", error)
    return RedisUnavailable(str(error), was_asked=True)


def note_refusal(error: exceptions.ResponseError) -> None:
    """Count an answer that is a refusal (out of memory, a full disk, a key of another type).

    The server is there, and may answer reads, so it is no reason to leave it alone. Which replies
    are more than a refusal: `config.redis_connections`.
    """
    FAILURES.labels("refused").inc()
    logger.debug("redis refused: %s", error)


def reset() -> None:
    """Forget the clients, the breakers' states and who is asking."""
    global _servers  # noqa: PLW0603
    _servers = {}


# What the parent's threads were asking at the time of a fork, nobody in the child will end.
os.register_at_fork(after_in_child=reset)


class Script:
    """A Lua script: called by its SHA-1, and sent whole only to a server that does not know it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(
        self, client: Redis, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """Run it and return its answer; raises redis-py's exceptions."""
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except exceptions.NoScriptError:
            return client.eval(self.text, len(keys), *keys, *args)

    def queue(
        self, pipeline: Pipeline, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> None:
        """Add a call by its SHA-1 to a pipeline, whose answer may be a NoScriptError."""
        # A cluster's pipeline refuses `evalsha` because keys may be on several nodes. Ours have one
        # hash tag, or there is one only.
        pipeline.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)  # type: ignore[no-untyped-call]


def _kind(error: Exception) -> str:
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "timeout"
    if isinstance(error, ReadOnlyServer):
        return "readonly"
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return "auth"
    if isinstance(error, _CONNECTION_ERRORS):
        return "connection"
    return "garbage"
