"""Resolve names so that one that hangs costs no other name a thread.

gevent resolves names in the ten native threads that all work of a process shares. A name
server that does not answer holds each of them for ten seconds and more, so a few calls of a
provider whose name cannot be resolved would stop every other new connection too.
"""

from __future__ import annotations

import _socket
import socket
from typing import Any

import gevent
from gevent.resolver.thread import Resolver
from gevent.threadpool import ThreadPool

# Lookups that run: as many names as settings and chains may hold. Threads start as needed.
THREADS = 64


class SharedResolver(Resolver):
    """Looks a name up once for all its callers of the time (single flight), in threads of its own.

    Raises socket.gaierror (EAI_AGAIN) after `timeout_seconds`; the lookup goes on, and a caller
    before its end joins it. So a name holds one thread, however many callers it has.
    """

    def __init__(self, hub: Any, *, timeout_seconds: float) -> None:
        super().__init__(hub)
        self.pool = ThreadPool(THREADS, hub=hub)
        self._timeout_seconds = timeout_seconds
        self._lookups: dict[Any, Any] = {}

    def getaddrinfo(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Return what `socket.getaddrinfo` does; an address is no name, and waits for no thread."""
        if args and _is_address(args[0]):
            return list(_socket.getaddrinfo(*args, **kwargs))
        error = socket.gaierror(
            socket.EAI_AGAIN, f"no answer within DNS_TIMEOUT_SECONDS ({self._timeout_seconds:g})"
        )
        with gevent.Timeout(self._timeout_seconds, error):
            return list(self._lookup(args, kwargs).get())

    def _lookup(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = (args, tuple(sorted(kwargs.items())))
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self.pool.spawn(_socket.getaddrinfo, *args, **kwargs)
            self._lookups[key] = lookup
            lookup.rawlink(lambda _: self._lookups.pop(key, None))
        return lookup


def _is_address(host: Any) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, TypeError, ValueError):
            continue
        return True
    return False


def install(*, timeout_seconds: float) -> None:
    """Set this thread's hub to this resolver; call it after the last fork."""
    hub: Any = gevent.get_hub()
    hub.resolver = SharedResolver(hub, timeout_seconds=timeout_seconds)
