"""Replicas that an operator has taken out of rotation, for every process to obey."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from scaling.redis_client import run

if TYPE_CHECKING:
    from redis import Redis

DETACHED_KEY = "headrace:replicas:detached"


def detach(name: str) -> None:
    """Keep reads away from a replica until `attach`; raises RedisUnavailable."""
    run(lambda client: client.sadd(DETACHED_KEY, name))


def attach(name: str) -> None:
    """Let a replica have reads again; raises RedisUnavailable."""
    run(lambda client: client.srem(DETACHED_KEY, name))


def detached() -> set[str]:
    """Return the names that are detached; raises RedisUnavailable."""

    def work(client: Redis) -> set[str]:
        return {name.decode() for name in cast("set[bytes]", client.smembers(DETACHED_KEY))}

    return run(work)
