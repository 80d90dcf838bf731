"""The right to scale: one autoscaler at a time, by a key in Redis that runs out.

Not an advisory lock of PostgreSQL: behind a PgBouncer that pools by transaction those belong to
no process. A process that is frozen loses the lease when it runs out, and sees so by its own clock.
A Redis that fails over, or evicts the key for want of memory, may give it to a second one; the
first sees so at its next call, and an actuator that must not be called twice has its own lock.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from scaling import redis_client
from scaling.redis_client import RedisUnavailable, Script

if TYPE_CHECKING:
    from redis import Redis

KEY = "headrace:autoscale:lease"
RENEW = Script(
    "if redis.call('get', KEYS[1]) == ARGV[1] then"
    " return redis.call('pexpire', KEYS[1], ARGV[2]) else return 0 end"
)
RELEASE = Script(
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1])"
    " else return 0 end"
)


class Lease:
    """Held from an `acquire` that returned True until `seconds` later, or `release`."""

    def __init__(self, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._token = secrets.token_hex(16)
        self._until: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether no other process can have it now."""
        return self._until is not None and self._clock() < self._until

    def acquire(self) -> bool:
        """Acquire or renew it; return whether it is ours. Raises RedisUnavailable."""
        # Redis counts from a later moment, so we never believe in it for too long.
        called_at = self._clock()
        milliseconds = int(self.seconds * 1000)

        def renew_or_set(client: Redis) -> bool:
            if self._until is not None and RENEW(client, [KEY], [self._token, milliseconds]):
                return True
            return bool(client.set(KEY, self._token, nx=True, px=milliseconds))

        is_ours = redis_client.run(renew_or_set)
        self._until = called_at + self.seconds if is_ours else None
        return is_ours

    def release(self) -> None:
        """Release it, if it is ours; without Redis it expires by itself."""
        if self._until is None:
            return
        self._until = None
        try:
            redis_client.run(lambda client: RELEASE(client, [KEY], [self._token]))
        except RedisUnavailable:
            return
