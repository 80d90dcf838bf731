"""Connect to a webhook's receiver: only to an address that was checked, and within a time limit.

A name is resolved once, every address that it stands for is checked, and the connection goes to one
of those addresses itself. A name server that answers differently the second time (DNS rebinding)
changes nothing, because nobody asks it a second time.
"""

from __future__ import annotations

import functools
import io
import socket
import ssl
import time
from ipaddress import ip_address
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent import monkey
from gevent.hub import Hub
from gevent.threadpool import ThreadPool

from jobs.notices.addresses import check_ip

# Resolving blocks a native thread, in the worst case for as long as the name server likes. These
# are not gevent's own threads, which everything else in the process needs.
RESOLVER_THREADS = 32
_resolvers: WeakKeyDictionary[Hub, ThreadPool] = WeakKeyDictionary()
# Within these threads the patched function would look for a loop of its own.
_getaddrinfo = monkey.get_original("socket", "getaddrinfo")


class Deadline:
    """The moment at which a delivery's time is over."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def remaining_seconds(self) -> float:
        """Return the time that is left; raises TimeoutError when there is none."""
        if (seconds := self._at - time.monotonic()) <= 0:
            raise TimeoutError("the time is over")
        return seconds


class DeadlineSocket:
    """As much of a socket as http.client uses; no call outlasts the deadline.

    A plain socket's timeout begins anew with every byte that arrives.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: Any) -> None:
        """Send everything; raises TimeoutError."""
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(self._deadline.remaining_seconds())
            rest = rest[self._sock.send(rest) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a reader of what arrives."""
        return io.BufferedReader(_Incoming(self._sock, self._deadline))

    def close(self) -> None:
        """Do nothing: http.client closes its socket before it has read the answer."""

    def hang_up(self) -> None:
        """Close the connection."""
        self._sock.close()


class _Incoming(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.remaining_seconds())
        return self._sock.recv_into(buffer)


def connect(*, host: str, port: int, is_tls: bool, deadline: Deadline) -> DeadlineSocket:
    """Return a connection to the host of a URL, with TLS its certificate verified.

    Raises ValueError if one of its addresses is private, and OSError (TimeoutError among them) if
    there is no connection.
    """
    sock = _connect_to_one(resolve(host, port, deadline), deadline)
    try:
        if is_tls:
            seconds = deadline.remaining_seconds()
            sock.settimeout(seconds)
            # In gevent's handshake a socket's timeout begins anew with every packet.
            with gevent.Timeout(seconds, TimeoutError("no TLS in time")):
                sock = _tls_context().wrap_socket(sock, server_hostname=host.removesuffix("."))
    except BaseException:
        sock.close()
        raise
    return DeadlineSocket(sock, deadline)


def resolve(host: str, port: int, deadline: Deadline) -> list[Any]:
    """Return what `getaddrinfo` says of the host; raises ValueError if any address is private."""
    hub = gevent.get_hub()
    if (pool := _resolvers.get(hub)) is None:
        pool = _resolvers[hub] = ThreadPool(RESOLVER_THREADS, hub=hub)
    with gevent.Timeout(deadline.remaining_seconds(), TimeoutError("no answer from DNS in time")):
        found: Any = pool.spawn(_look_up, host, port).get()
    if isinstance(found, OSError):
        raise found
    for *_, address in found:
        check_ip(ip_address(str(address[0]).partition("%")[0]))
    return list(found)


def _look_up(host: str, port: int) -> list[Any] | OSError:
    try:
        # As bytes, for a str would have the thread import Python's codec for foreign names.
        return list(_getaddrinfo(host.encode("ascii"), port, 0, socket.SOCK_STREAM))
    # Returned, because gevent prints what is raised in its threads.
    except OSError as error:
        return error


def _connect_to_one(found: list[Any], deadline: Deadline) -> socket.socket:
    failure: OSError = OSError("the host has no address")
    for place, (family, kind, protocol, _, address) in enumerate(found):
        # One address that swallows packets leaves time for the others.
        seconds = deadline.remaining_seconds() / (len(found) - place)
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(seconds)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


@functools.cache
def _tls_context() -> ssl.SSLContext:
    # Reading the system's authorities takes some 20 ms.
    return ssl.create_default_context()
