"""Detach and attach replicas by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from django.db import connections

from scaling.redis_client import RedisUnavailable
from scaling.replicas import control
from scaling.replicas.decision import PRIMARY

T = TypeVar("T")

# A request does without Redis when it is slow; a person would rather wait. To say it twice does no
# harm.
TRY_SECONDS = 3.0
PAUSE_SECONDS = 0.1


class NotDone(Exception):
    """A replica was not detached or attached; the text says why."""


def replica_names() -> list[str]:
    """Return the names of the replicas that this process knows."""
    return sorted(name for name in connections.settings if name != PRIMARY)


def detach(name: str) -> None:
    """Take a replica out of rotation on every node; raises NotDone."""
    _require(name, replica_names())
    _tell(name, lambda: control.detach(name))


def attach(name: str) -> None:
    """Let a replica have reads again, or forget one that is gone; raises NotDone."""
    if name not in _tell(name, control.detached):
        _require(name, replica_names())
    _tell(name, lambda: control.attach(name))


def _require(name: str, names: list[str]) -> None:
    if name in names:
        return
    if name == PRIMARY:
        raise NotDone("The primary takes the writes, and cannot be detached or attached.")
    if not names:
        raise NotDone("There are no replicas: DATABASE_REPLICA_URLS names none.")
    raise NotDone(f"There is no replica {name!r}; there is {', '.join(names)}.")


def _tell(name: str, work: Callable[[], T]) -> T:
    deadline = time.monotonic() + TRY_SECONDS
    while True:
        try:
            return work()
        except RedisUnavailable as error:
            if time.monotonic() >= deadline:
                raise NotDone(
                    f"The nodes were not informed about {name}: Redis does not answer ({error})."
                ) from error
        time.sleep(PAUSE_SECONDS)
