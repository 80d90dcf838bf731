"""Call Redis on a request's path: quickly, or not at all.

A request waits for Redis at most about `REDIS_TIMEOUT_SECONDS`: connections come from the pool of
django-redis, which gives redis-py no retry policy, so that a command is sent once. (Two timeouts
when a new connection must first be made; a server that dribbles one byte at a time can stretch
each step of a new connection's handshake to one timeout.) After a failure no call is sent for
`REDIS_RETRY_SECONDS`, then one caller at a time probes. A process has at most `MAX_AT_ONCE` calls
under way; more wait in a queue, at most `MAX_WAIT_SECONDS`.
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
from scaling.fair_semaphore import FairSemaphore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import Redis
    from redis.client import Pipeline

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Hundreds of greenlets may want Redis in the same millisecond. A connection for each would be a
# storm of handshakes, and beyond the hundred that redis-py's pool allows, an error.
MAX_AT_ONCE = 64
# Longer than a timeout: the time is spent on our own work, not on Redis. Once the breaker opens,
# all calls in the queue end at once.
MAX_WAIT_SECONDS = 0.5

FAILURES = Counter(
    "headrace_redis_failures",
    "Calls to Redis that failed, by kind: timeout, connection, readonly, auth, busy, refused or"
    " garbage.",
    ["kind"],
)


_FAILURES = (
    exceptions.RedisError,
    # A cluster's client has a base class of its own for the errors that it raises itself.
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

    `may_have_run` False means that the command was never sent.
    """

    def __init__(self, message: str, *, may_have_run: bool) -> None:
        super().__init__(message)
        self.may_have_run = may_have_run


class Breaker:
    """A circuit breaker, so that only few callers wait for a server that is unavailable.

    Invariant: while open, at most one call is under way, and none starts within the retry time
    after a failure. Only such a probe's success closes it; the late success of a call that began
    before the failure does not.
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
        """Return whether this call is the probe; raises RedisUnavailable while it is open."""
        if self._retry_at is None:
            return False
        with self._lock:
            if self._retry_at is None:
                return False
            if self._is_probing or self._clock() < self._retry_at:
                raise RedisUnavailable("Redis failed a moment ago", may_have_run=False)
            self._is_probing = True
            return True

    def fail(self, retry_seconds: float) -> bool:
        """Open, or stay open, for so long; return whether it was closed."""
        with self._lock:
            was_closed = self._retry_at is None
            self._retry_at = self._clock() + retry_seconds
            return was_closed

    def succeed(self) -> None:
        """Close again, after a probe."""
        with self._lock:
            self._retry_at = None

    def end_probe(self) -> None:
        """Allow the next probe, however this one ended; a killed greenlet's ends here too."""
        with self._lock:
            self._is_probing = False


class _Server:
    """One of Django's caches, the breaker before it, and the queue of its callers."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.breaker = Breaker()
        self.semaphore = FairSemaphore(MAX_AT_ONCE)

    @functools.cached_property
    def client(self) -> Redis:
        # One for the process: Django would build a new cache backend for every greenlet. The client
        # is thread-safe, and its pool notices a fork.
        return cast("Redis", get_redis_connection(self.alias))


_servers: dict[str, _Server] = {}


def run(work: Callable[[Redis], T], *, alias: str = "default") -> T:
    """Return `work(client)`; raises RedisUnavailable at once, or after one timeout.

    `alias` names one of Django's caches; the failures of one do not concern another. A
    ValueError from `work` means that an answer makes no sense.
    """
    server = _servers.get(alias) or _servers.setdefault(alias, _Server(alias))
    if not server.semaphore.acquire(timeout_seconds=MAX_WAIT_SECONDS):
        FAILURES.labels("busy").inc()
        raise RedisUnavailable("too many open calls to Redis", may_have_run=False)
    try:
        return _call_server(work, server)
    finally:
        server.semaphore.release()


def _call_server(work: Callable[[Redis], T], server: _Server) -> T:
    breaker = server.breaker
    is_probe = breaker.enter()
    try:
        result = work(server.client)
    except exceptions.MaxConnectionsError as error:
        # Our own pool is exhausted, which is no reason to stop the calls that hold its connections.
        FAILURES.labels("busy").inc()
        raise RedisUnavailable(str(error), may_have_run=False) from error
    except exceptions.ClusterDownError as error:
        # It is a response, but no server is there. redis-py slept a quarter of a second.
        raise _failed(error, breaker) from error
    except exceptions.ResponseError as error:
        note_refusal(error)
        if is_probe:
            breaker.succeed()
        raise RedisUnavailable(str(error), may_have_run=True) from error
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
    return RedisUnavailable(str(error), may_have_run=True)


def note_refusal(error: exceptions.ResponseError) -> None:
    """Count a reply that is a refusal (out of memory, a full disk, a key of another type).

    The server is available, and may answer reads, so the breaker stays closed. Which replies are
    more than a refusal: `config.redis_connections`.
    """
    FAILURES.labels("refused").inc()
    logger.debug("redis refused: %s", error)


def reset() -> None:
    """Drop the clients, the breakers' states and the queues."""
    global _servers  # noqa: PLW0603
    _servers = {}


# No thread of the child ends the calls that the parent had under way at the fork.
os.register_at_fork(after_in_child=reset)


class Script:
    """A Lua script: called by its SHA-1; its text is sent only to a server that lacks it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(
        self, client: Redis, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """Run it and return its reply; raises redis-py's exceptions."""
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except exceptions.NoScriptError:
            return client.eval(self.text, len(keys), *keys, *args)

    def queue(
        self, pipeline: Pipeline, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> None:
        """Add a call by its SHA-1 to a pipeline, whose reply may be a NoScriptError."""
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
