"""Whether any process hears the primary: those that do renew a key in Redis.

A process that does not hear it alone is cut off, and others go on writing; what it sees of a
replica's lag is not enough then. When no process hears it, nothing is written. What Redis answered
last counts for a while: it may not answer for a moment, and the replicas are all that can be read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from django.conf import settings

from scaling.redis_client import run

if TYPE_CHECKING:
    from redis import Redis

KEY = "headrace:primary:heard"
# A process that has not heard the primary for so long looks for others that do.
HEARD_SECONDS = 2.0
RENEW_SECONDS = 1.0
# Longer than all processes may be late with renewing it. That no process hears the primary is known
# after these three, which is sooner than POSITION_SECONDS less REPLICA_MAX_LAG_SECONDS, when a
# replica that lacks the end of the primary's log would leave the rotation.
LIFETIME_SECONDS = 4.0


class PrimaryContact:
    """This process's part in it; `is_heard` may be wrong for LIFETIME_SECONDS.

    While Redis does not answer, it may be for longer: for as long as the positions of writes that
    others have begun since are stored.
    """

    def __init__(self) -> None:
        self.is_heard = True
        self._renewed_at = -math.inf

    def tick(self, now: float, *, heard_at: float) -> None:
        """Renew the key, or look for it; for the watcher. Raises RedisUnavailable."""
        if now - self._renewed_at < RENEW_SECONDS:
            return
        if now - heard_at < HEARD_SECONDS:
            self.is_heard = True
            run(_renew)
        else:
            self.is_heard = run(_exists)
        self._renewed_at = now

    def lose_redis(self, now: float) -> None:
        """Note that Redis does not answer: others may hear the primary, and write, unseen."""
        stored_seconds = settings.POSITION_SECONDS - settings.REPLICA_MAX_LAG_SECONDS
        if now - self._renewed_at > stored_seconds - LIFETIME_SECONDS:
            self.is_heard = True


def _renew(client: Redis) -> None:
    client.set(KEY, "1", px=int(LIFETIME_SECONDS * 1000))


def _exists(client: Redis) -> bool:
    return bool(client.exists(KEY))
