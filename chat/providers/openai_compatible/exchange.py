"""One request and its response on a connection of the pool.

A stream waits inside of all its callers. Each generator between them and the socket costs half a
kilobyte of stack and frame for as long as it does, so that reading is done in plain methods.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

from chat.providers.openai_compatible.chunked_body import ChunkedBody, MalformedChunk
from chat.providers.openai_compatible.connection import BoundedResponse, Connection
from chat.providers.openai_compatible.endpoint import Endpoint
from chat.providers.openai_compatible.errors import Unreachable
from chat.providers.openai_compatible.pool import ConnectionPool, pool_of
from chat.providers.openai_compatible.timeouts import Deadline
from chat.providers.response_limits import Budget, encoding_of

# What is read of a successful response's headers.
BODY_HEADERS = ("content-type", "content-encoding")
READ_BYTES = 16_384
# Larger bodies are sent after the head; a copy of both together costs less than a packet.
SMALL_BODY_BYTES = 16_384
# What the end of a stream may take after its last event, for the connection to be reused.
LAST_BYTES_SECONDS = 0.05


class Exchange:
    """A response whose head was read; `begin` and `read` have its body, or `body` all of it.

    Closing it before the end closes the connection, so that the provider stops its work.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        connection: Connection,
        response: BoundedResponse,
        deadline: Deadline,
    ) -> None:
        self.status = response.status
        self.headers: Any = response.headers
        if self.status == 200:
            # A stream would hold the others to its end.
            self.headers = {name: str(response.headers.get(name, "")) for name in BODY_HEADERS}
        self.deadline = deadline
        self._pool = pool
        self._connection: Connection | None = connection
        self._wire_budget = response.wire_budget
        self._will_close = bool(response.will_close)
        # Of a body with a Content-Length; one with neither ends with the connection.
        self._bytes_left = response.length
        self._chunked = ChunkedBody() if response.chunked else None
        # The part of the body that came with the head. All else is received by the socket itself: a
        # reader between would hold its buffer and its stack for as long as a stream waits.
        self._received = response.leave_socket()
        self._budget = Budget(is_stream=False, encoding="")
        self._pieces: Iterator[bytes] = iter(())
        self._has_ended = False

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, *, is_stream: bool) -> None:
        """Read the body from here on: a stream by complete events, else as it comes.

        Raises ConnectionError for a compression that was not requested.
        """
        self._budget = Budget(is_stream=is_stream, encoding=encoding_of(self.headers))
        self._wire_budget.expect(self._budget.setting)

    def read(self) -> bytes:
        """Return the next piece of the body, inflated; none at its end.

        Raises Unreachable where it breaks off, AnswerTooLarge, and the deadline's timeout.
        """
        while not self._has_ended:
            for piece in self._pieces:
                if piece:
                    return piece
            if data := self._receive_part():
                self._pieces = self._budget.read(data)
            else:
                self._has_ended = True
                return self._budget.rest()
        return b""

    def body(self) -> bytes:
        """Return the body of a unary answer."""
        self.begin(is_stream=False)
        return self.rest()

    def rest(self) -> bytes:
        """Return all that is left of the body."""
        return b"".join(iter(self.read, b""))

    def read_last_bytes(self) -> None:
        """Read what follows the last event, if it is there, so that the connection is reused."""
        self.deadline.end_within(LAST_BYTES_SECONDS)
        try:
            while self._receive_part():
                pass
        except (TimeoutError, Unreachable):
            return

    def close(self) -> None:
        """Give the connection back, or close it where the answer was not read to its end."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._is_complete() and not self._will_close:
            self._pool.release(connection)
        else:
            self._pool.discard(connection)

    def _receive_part(self) -> bytes:
        """Return the next bytes of the body, as they came; none at its end."""
        if self._chunked is None:
            return self._receive_plain()
        data = b""
        while not data and not self._chunked.has_ended:
            if not (received := self._receive()):
                raise Unreachable
            try:
                data = self._chunked.decode(received)
            except MalformedChunk as error:
                raise Unreachable from error
        return data

    def _receive_plain(self) -> bytes:
        if self._bytes_left is None:
            return self._receive()
        if self._bytes_left <= 0:
            return b""
        if not (data := self._receive()):
            raise Unreachable
        # Below zero where more came than the body may have.
        left, self._bytes_left = self._bytes_left, self._bytes_left - len(data)
        return data[:left]

    def _receive(self) -> bytes:
        if self._received:
            received, self._received = self._received, b""
            return received
        assert self._connection is not None  # noqa: S101
        sock = self._connection.socket
        sock.settimeout(self.deadline.seconds_left())
        try:
            data: bytes = sock.recv(READ_BYTES)
        except TimeoutError:
            raise self.deadline.error() from None
        except OSError as error:
            raise Unreachable from error
        self._wire_budget.add(len(data))
        return data

    def _is_complete(self) -> bool:
        """Return whether the body was read to its end, and nothing came after it."""
        if self._chunked is not None:
            return self._chunked.has_ended and not self._chunked.has_excess
        return self._bytes_left == 0 and not self._received


def send(endpoint: Endpoint, body: bytes, deadline: Deadline) -> Exchange:
    """Send a request and read the response's head.

    A connection that the provider had closed before the request came is replaced by a new one.
    Raises Unreachable, PoolExhausted, AnswerTooLarge, and timeouts.
    """
    pool = pool_of(endpoint.origin)
    connection = pool.acquire(deadline)
    try:
        try:
            response = _round_trip(endpoint, body, connection, deadline)
        except _ClosedBefore:
            pool.close_idle()
            pool.discard(connection)
            connection = pool.acquire(deadline, must_be_new=True)
            response = _round_trip(endpoint, body, connection, deadline)
    except BaseException:
        pool.discard(connection)
        raise
    return Exchange(pool, connection, response, deadline)


class _ClosedBefore(Unreachable):
    """A reused connection ended without a byte of a response."""


def _round_trip(
    endpoint: Endpoint, body: bytes, connection: Connection, deadline: Deadline
) -> BoundedResponse:
    sock = connection.socket
    head = b"%b\r\nContent-Length: %d\r\n\r\n" % (endpoint.head, len(body))
    response = None
    try:
        sock.settimeout(deadline.seconds_left())
        try:
            if len(body) <= SMALL_BODY_BYTES:
                sock.sendall(head + body)
            else:
                sock.sendall(head)
                sock.sendall(body)
        except (ConnectionError, ssl.SSLEOFError):
            # A server that refuses a body may answer before it has read all of it.
            pass
        response = BoundedResponse(sock)
        sock.settimeout(deadline.seconds_left())
        response.begin()
    except TimeoutError:
        raise deadline.error() from None
    except (OSError, HTTPException) as error:
        if connection.was_used and (response is None or not response.wire_budget.count):
            raise _ClosedBefore from error
        raise Unreachable from error
    return response
