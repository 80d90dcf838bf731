"""One request and its response on a connection of the pool."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.client import HTTPException

from chat.providers.openai_compatible.chunked_body import ChunkedBody, MalformedChunk
from chat.providers.openai_compatible.connection import BoundedResponse, Connection
from chat.providers.openai_compatible.endpoint import Endpoint
from chat.providers.openai_compatible.errors import Unreachable
from chat.providers.openai_compatible.pool import ConnectionPool, pool_of
from chat.providers.openai_compatible.timeouts import Deadline
from chat.providers.response_limits import Budget, encoding_of

READ_BYTES = 16_384
# Larger bodies are sent after the head; a copy of both together costs less than a packet.
SMALL_BODY_BYTES = 16_384
# What the end of a stream may take after its last event, for the connection to be reused.
LAST_BYTES_SECONDS = 0.05


class Exchange:
    """A response whose head was read; `pieces` has its body.

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
        self.headers = response.headers
        self.deadline = deadline
        self._pool = pool
        self._connection: Connection | None = connection
        self._response = response
        # Of a body with a Content-Length; the class does not say whether all of it came.
        self._bytes_left = response.length
        self._chunked = ChunkedBody() if response.chunked else None

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pieces(self, *, is_stream: bool) -> Iterator[bytes]:
        """Yield the body, inflated; a stream's by complete events.

        Raises Unreachable where it breaks off, AnswerTooLarge, and the deadline's timeout.
        """
        budget = Budget(is_stream=is_stream, encoding=encoding_of(self.headers))
        self._response.wire_budget.expect(budget.setting)
        while data := self._read():
            yield from budget.read(data)
        if rest := budget.rest():
            yield rest

    def body(self) -> bytes:
        """Return the body of a unary answer."""
        return b"".join(self.pieces(is_stream=False))

    def read_last_bytes(self) -> None:
        """Read what follows the last event, if it is there, so that the connection is reused."""
        self.deadline.end_within(LAST_BYTES_SECONDS)
        try:
            while self._read():
                pass
        except (TimeoutError, Unreachable):
            return

    def close(self) -> None:
        """Give the connection back, or close it where the answer was not read to its end."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        is_complete = self._is_complete() and not self._response.will_close
        # The socket is open for as long as the response has a reader of it.
        self._response.close()
        if is_complete:
            self._pool.release(connection)
        else:
            self._pool.discard(connection)

    def _read(self) -> bytes:
        """Return the next bytes of the body; none at its end."""
        if self._chunked is None:
            data = self._receive()
            if self._bytes_left is not None:
                self._bytes_left -= len(data)
                if not data and self._bytes_left:
                    raise Unreachable
            return data
        data = b""
        while not data and not self._chunked.has_ended:
            if not (received := self._receive()):
                raise Unreachable
            try:
                data = self._chunked.decode(received)
            except MalformedChunk as error:
                raise Unreachable from error
        return data

    def _receive(self) -> bytes:
        assert self._connection is not None  # noqa: S101
        self._connection.socket.settimeout(self.deadline.seconds_left())
        try:
            if self._chunked is None:
                return self._response.read1(READ_BYTES)
            return self._response.read_framed(READ_BYTES)
        except TimeoutError:
            raise self.deadline.error() from None
        except (OSError, HTTPException) as error:
            raise Unreachable from error

    def _is_complete(self) -> bool:
        """Return whether the body was read to its end, and nothing came after it."""
        if self._chunked is not None:
            return self._chunked.has_ended and not self._chunked.has_excess
        if self._bytes_left is None:
            return bool(self._response.isclosed())
        return self._bytes_left == 0


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
