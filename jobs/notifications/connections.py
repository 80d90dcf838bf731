"""Connect to a webhook's receiver: only to a checked address, within limits of time and bytes.

A name is resolved once, every address that it stands for is checked, and the connection goes to one
of those addresses itself. A name server that answers differently the second time (DNS rebinding)
changes nothing, because the name is not resolved a second time.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import ip_address
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from django.conf import settings
from gevent import monkey
from gevent.hub import Hub
from gevent.threadpool import ThreadPool

from config import deadline_socket
from config.deadline_socket import DeadlineSocket, connect_to_one
from jobs.notifications.addresses import check_ip

# Resolving blocks a native thread for as long as the name server likes. These are not the threads
# in which the process resolves its own names (node/resolver.py), and there is one for each attempt,
# which is over only when its lookup is (`finish_lookup`). So an account's names that hang take the
# threads of its own attempts, and no other's.
LOOKUP_SECONDS = 60.0
# An answer of DNS may hold thousands; the rest is ignored, and not connected to.
MAX_ADDRESSES = 16
_resolvers: WeakKeyDictionary[Hub, ThreadPool] = WeakKeyDictionary()
_last_lookup: ContextVar[Any] = ContextVar("last_lookup", default=None)
# Within these threads the patched function would look for a loop of its own.
getaddrinfo = monkey.get_original("socket", "getaddrinfo")


class Deadline(deadline_socket.Deadline):
    """The moment at which a delivery's time is over."""

    @contextmanager
    def enforced_on(self, sock: socket.socket) -> Iterator[None]:
        """End a call of the socket at the deadline with TimeoutError.

        By both means: with TLS a socket's own timeout starts again with every record, and a socket
        without gevent has no other.
        """
        # A receiver that always has more to send would block the event loop: recv yields only when
        # it must wait.
        gevent.sleep(0)
        seconds = self.remaining_seconds()
        sock.settimeout(seconds)
        with gevent.Timeout(seconds, TimeoutError("the time limit has passed")):
            yield


def connect(
    *, host: str, port: int, is_tls: bool, deadline: Deadline, max_bytes: int
) -> DeadlineSocket:
    """Return a connection to the host of a URL, with TLS its certificate verified.

    Raises ValueError if one of its addresses is private, and OSError (TimeoutError among them) if
    there is no connection.
    """
    sock = connect_to_one(resolve(host, port, deadline), deadline)
    try:
        if is_tls:
            seconds = deadline.remaining_seconds()
            sock.settimeout(seconds)
            # In gevent's handshake a socket's timeout starts again with every packet.
            with gevent.Timeout(seconds, TimeoutError("no TLS in time")):
                sock = tls_context().wrap_socket(sock, server_hostname=host.removesuffix("."))
    except BaseException:
        sock.close()
        raise
    return DeadlineSocket(sock, deadline, max_bytes=max_bytes, setting="WEBHOOK_MAX_RESPONSE_BYTES")


def resolve(host: str, port: int, deadline: Deadline) -> list[Any]:
    """Return the first MAX_ADDRESSES of a host; raises ValueError if one of them is private."""
    hub = gevent.get_hub()
    if (pool := _resolvers.get(hub)) is None:
        pool = _resolvers[hub] = ThreadPool(settings.NOTIFICATION_CONCURRENCY, hub=hub)
    with gevent.Timeout(deadline.remaining_seconds(), TimeoutError("no answer from DNS in time")):
        lookup: Any = pool.spawn(look_up, host, port)
        _last_lookup.set(lookup)
        found: Any = lookup.get()
    if isinstance(found, OSError):
        raise found
    addresses = list(found[:MAX_ADDRESSES])
    for *_, address in addresses:
        check_ip(ip_address(str(address[0]).partition("%")[0]))
    return addresses


def finish_lookup() -> None:
    """Wait until the last lookup of this greenlet has left its thread, at most LOOKUP_SECONDS."""
    lookup = _last_lookup.get()
    if lookup is not None:
        lookup.wait(LOOKUP_SECONDS)


def look_up(host: str, port: int) -> list[Any] | OSError:
    """Return the addresses of a host, or the error; runs in a native thread."""
    try:
        # As bytes: for a str the thread would import Python's codec for foreign names.
        return list(getaddrinfo(host.encode("ascii"), port, 0, socket.SOCK_STREAM))
    # Returned, because gevent prints errors of its threads.
    except OSError as error:
        return error


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return the context of all connections, which trusts the system's authorities."""
    # Reading the system's authorities takes some 20 ms.
    context = ssl.create_default_context()
    # Each renegotiation is work for both sides, and a receiver could request it for ever.
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context
