"""Detach replicas, by name: an operator takes them out of rotation in every process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from django.db import connections

from scaling.redis_client import RedisUnavailable, run
from scaling.replicas.decision import PRIMARY

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")

DETACHED_KEY = "headrace:replicas:detached"
# A request does without Redis when it is slow; a person would rather wait. A repeated command does
# no harm.
RETRY_SECONDS = 3.0
PAUSE_SECONDS = 0.1


class DetachmentError(Exception):
    """A replica was not detached or attached; the text says why."""


def replica_names() -> list[str]:
    """Return the names of this process's replicas."""
    return sorted(name for name in connections.settings if name != PRIMARY)


def detach(name: str) -> None:
    """Take a replica out of rotation on every node; raises DetachmentError."""
    _require(name, replica_names())
    _retry(name, lambda: add_detached(name))


def attach(name: str) -> None:
    """Undo `detach`, also of a replica that is gone; raises DetachmentError."""
    if name not in _retry(name, read_detached):
        _require(name, replica_names())
    _retry(name, lambda: remove_detached(name))


def add_detached(name: str) -> None:
    """Add a name to the detached replicas; raises RedisUnavailable."""
    run(lambda client: client.sadd(DETACHED_KEY, name))


def remove_detached(name: str) -> None:
    """Remove a name from the detached replicas; raises RedisUnavailable."""
    run(lambda client: client.srem(DETACHED_KEY, name))


def read_detached() -> set[str]:
    """Return the names of the detached replicas; raises RedisUnavailable."""

    def work(client: Redis) -> set[str]:
        return {name.decode() for name in cast("set[bytes]", client.smembers(DETACHED_KEY))}

    return run(work)


def _require(name: str, names: list[str]) -> None:
    if name in names:
        return
    if name == PRIMARY:
        raise DetachmentError("The primary takes the writes, and cannot be detached or attached.")
    if not names:
        raise DetachmentError("There are no replicas: DATABASE_REPLICA_URLS names none.")
    raise DetachmentError(f"There is no replica {name!r}; there is {', '.join(names)}.")


def _retry(name: str, work: Callable[[], T]) -> T:
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return work()
        except RedisUnavailable as error:
            if time.monotonic() >= deadline:
                raise DetachmentError(
                    f"The nodes were not informed about {name}: Redis does not answer ({error})."
                ) from error
        time.sleep(PAUSE_SECONDS)
