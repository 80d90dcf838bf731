"""A connection to a provider: urllib3's, with TLS and proxies, and a response that is bounded."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import time
from functools import cache
from http.client import HTTPResponse, IncompleteRead
from typing import Any
from urllib.parse import urlsplit

import certifi
from django.conf import settings
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import parse_url

from chat.providers.openai_compatible.endpoint import Origin, proxy_authorization
from chat.providers.openai_compatible.errors import ConnectTimeout, Unreachable
from chat.providers.wire import WireBudget

# Of a head.
BUFFER_BYTES = 4_096


class Connection:
    """A connection that is open; it belongs to one call at a time."""

    __slots__ = ("_http", "idle_since", "opened_at", "socket", "was_used")

    def __init__(self, origin: Origin, timeout_seconds: float) -> None:
        """Connect; raises ConnectTimeout and Unreachable."""
        self._http = _urllib3_connection(origin, timeout_seconds)
        try:
            self._http.connect()
        # urllib3 derives it from its timeout: a connection was refused, or a name not found.
        except NewConnectionError as error:
            self._http.close()
            raise Unreachable from error
        except (ConnectTimeoutError, TimeoutError) as error:
            self._http.close()
            raise ConnectTimeout from error
        # TLS, proxies and resolvers raise errors of many classes.
        except Exception as error:
            self._http.close()
            raise Unreachable from error
        # A greenlet that is killed.
        except BaseException:
            self._http.close()
            raise
        self.socket: Any = self._http.sock
        self.opened_at = self.idle_since = time.monotonic()
        self.was_used = False

    def is_usable(self) -> bool:
        """Return whether the provider has neither closed the connection nor sent anything more."""
        return self._http.is_connected

    def close(self) -> None:
        """Close it; a provider that was at work sees that nobody waits.

        A response that still reads from the socket, or an exception whose traceback holds one,
        would leave it open.
        """
        if self._http.sock is not None:
            with contextlib.suppress(OSError):
                self._http.sock.shutdown(socket.SHUT_RDWR)
        self._http.close()


class BoundedResponse(HTTPResponse):
    """An HTTP response whose bytes are counted: interim answers, head, framing and trailers too."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock, method="POST")
        self.wire_budget = WireBudget()
        self._reader = _CountedReader(self.fp.detach(), self.wire_budget)
        self.fp = io.BufferedReader(self._reader, BUFFER_BYTES)

    def begin(self) -> None:
        """Read the head; raises IncompleteRead where it is cut, which the class does not notice."""
        super().begin()
        if self._reader.has_ended:
            raise IncompleteRead(b"")

    def leave_socket(self) -> bytes:
        """Return the part of the body that was read with the head, and leave the socket."""
        self._reader.is_detached = True
        data: bytes = self.fp.peek(1)
        self.close()
        return data

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        # The class skips `100 Continue` alone.
        is_interim = 100 < status < 200 and status != 101
        return version, 100 if is_interim else status, reason


class _CountedReader(io.RawIOBase):
    def __init__(self, raw: Any, budget: WireBudget) -> None:
        self._raw = raw
        self._budget = budget
        self.has_ended = False
        self.is_detached = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.is_detached:
            # A read of what is buffered goes no further.
            return None
        count: int = self._raw.readinto(buffer)
        self._budget.add(count)
        self.has_ended = not count
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _urllib3_connection(origin: Origin, timeout_seconds: float) -> HTTPConnection:
    if not origin.proxy_url:
        if origin.scheme == "http":
            return HTTPConnection(origin.host, origin.port, timeout=timeout_seconds)
        context = _tls_context(settings.PROVIDER_CA_BUNDLE)
        return HTTPSConnection(
            origin.host, origin.port, timeout=timeout_seconds, ssl_context=context
        )
    proxy = urlsplit(origin.proxy_url)
    host, port = proxy.hostname or "", proxy.port or 3128
    url = parse_url(origin.proxy_url)
    if origin.scheme == "http":
        return HTTPConnection(host, port, timeout=timeout_seconds, proxy=url)
    context = _tls_context(settings.PROVIDER_CA_BUNDLE)
    tunnel = HTTPSConnection(host, port, timeout=timeout_seconds, proxy=url, ssl_context=context)
    tunnel.set_tunnel(origin.host, origin.port, proxy_authorization(proxy), scheme="http")
    return tunnel


@cache
def _tls_context(ca_bundle: str) -> ssl.SSLContext:
    """Return one context for all connections: reading the authorities takes up to 50 ms."""
    if ca_bundle:
        return ssl.create_default_context(cafile=ca_bundle)
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
