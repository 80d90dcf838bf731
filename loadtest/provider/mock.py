"""A provider for benchmarks: OpenAI's chat completions over HTTP, at little cost.

`python -m loadtest.provider.mock --port PORT` answers each request at once, streams included. With
`--first-token-seconds` it waits before, and with `--tokens-per-second` it streams token by token;
each token is the time at which it was sent then. A whole answer that was waited for ends with the
seconds that it took. One process, one thread, no framework: what is measured needs the processor.
"""

from __future__ import annotations

import argparse
import heapq
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.provider import wire

RECEIVE_BYTES = 1 << 18
LISTEN_BACKLOG = 8192


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a provider answers; `tokens_per_second` 0 is all at once."""

    first_token_seconds: float
    tokens_per_second: float
    tokens: int


class Connection:
    """A client's connection: what has come of a request, and what could not be sent yet."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self.sock = sock
        self._received = bytearray()
        self._request_bytes = 0
        self._unsent = b""
        self.is_open = True

    def receive(self) -> None:
        """Read what has come, and answer when the request is complete."""
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._server.close(self)
            return
        self._received += data
        if not self._request_bytes:
            self._request_bytes = wire.request_bytes(self._received)
        if self._request_bytes and len(self._received) >= self._request_bytes:
            request = bytes(self._received)
            self._received.clear()
            self._request_bytes = 0
            self._server.answer(self, request)

    def send(self, data: bytes) -> None:
        """Send, and hold what the socket does not take until it does."""
        if not self.is_open:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._server.close(self)
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._server.watch_writes(self)

    def flush(self) -> None:
        """Send what was held."""
        data, self._unsent = self._unsent, b""
        self._server.watch_reads(self)
        self.send(data)


class Server:
    """The loop: sockets that are ready, and answers that are due."""

    def __init__(self, port: int, pace: Pace) -> None:
        self._pace = pace
        self._listener = socket.create_server(("127.0.0.1", port), backlog=LISTEN_BACKLOG)
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._stream = wire.complete_stream(pace.tokens, with_usage=False)
        self._stream_with_usage = wire.complete_stream(pace.tokens, with_usage=True)

    def run(self) -> None:
        """Serve until the process ends."""
        while True:
            wait = max(0.0, self._due[0][0] - time.time()) if self._due else None
            for descriptor, event in self._poll.poll(wait):
                connection = self._connections.get(descriptor)
                if connection is None:
                    self._accept()
                elif event & select.EPOLLOUT:
                    connection.flush()
                else:
                    connection.receive()
            now = time.time()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()

    def answer(self, connection: Connection, request: bytes) -> None:
        """Answer one request at the provider's pace."""
        began, pace = time.time(), self._pace
        if not wire.is_stream(request):
            if not pace.first_token_seconds:
                connection.send(wire.WHOLE)
                return
            self._at(
                began + pace.first_token_seconds,
                lambda: connection.send(wire.whole(time.time() - began)),
            )
            return
        with_usage = wire.wants_usage(request)
        if not pace.tokens_per_second:
            complete = self._stream_with_usage if with_usage else self._stream
            self._at(began + pace.first_token_seconds, lambda: connection.send(complete))
            return
        self._at(began + pace.first_token_seconds, lambda: self._stream_token(connection, began, 0))

    def _stream_token(self, connection: Connection, began: float, number: int) -> None:
        if not connection.is_open:
            return
        pace = self._pace
        event = wire.token_chunk(f"{time.time():.6f} ", is_first=number == 0)
        if number + 1 == pace.tokens:
            connection.send(event + wire.STREAM_END)
            return
        connection.send(event)
        due = began + pace.first_token_seconds + (number + 1) / pace.tokens_per_second
        self._at(due, lambda: self._stream_token(connection, began, number + 1))

    def _at(self, due: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (due, self._count, call))

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[sock.fileno()] = Connection(self, sock)
            self._poll.register(sock, select.EPOLLIN)

    def watch_writes(self, connection: Connection) -> None:
        """Wait until a connection takes more."""
        self._poll.modify(connection.sock, select.EPOLLOUT)

    def watch_reads(self, connection: Connection) -> None:
        """Wait for a connection's next request."""
        self._poll.modify(connection.sock, select.EPOLLIN)

    def close(self, connection: Connection) -> None:
        """Forget a connection that its client has closed."""
        if connection.is_open:
            connection.is_open = False
            del self._connections[connection.sock.fileno()]
            self._poll.unregister(connection.sock)
            connection.sock.close()


def main() -> None:
    """Serve at a port of this machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--first-token-seconds", type=float, default=0.0)
    parser.add_argument("--tokens-per-second", type=float, default=0.0)
    parser.add_argument("--tokens", type=int, default=100, help="of a streamed answer")
    options = parser.parse_args()
    pace = Pace(
        first_token_seconds=options.first_token_seconds,
        tokens_per_second=options.tokens_per_second,
        tokens=options.tokens,
    )
    Server(options.port, pace).run()


if __name__ == "__main__":
    main()
