"""Read many streams in a process of its own, which costs little.

`KEY=... python -m loadtest.provider.stream_reader URL BODY STREAMS OPENING_SECONDS TOKENS`. Every
stream is read to its end; of some, the time of each token is compared with the time at which the
mock sent it. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

# Of that many streams each token is looked at; more would take the processor from the servers.
SAMPLED = 250
RECEIVE_BYTES = 1 << 16
END = b"data: [DONE]"
# Stamps of tokens that left in one write stand in one text.
STAMP = re.compile(rb"(\d{10}\.\d{6}) ")
MAX_SECONDS = 600


class Stream:
    """One stream: its socket, the end of what came, and its delays if it is sampled."""

    def __init__(self, sock: socket.socket, *, is_sampled: bool) -> None:
        self.sock = sock
        self.is_sampled = is_sampled
        self.tokens = 0
        self._rest = b""
        self.delays_ms: list[float] = []
        self.has_ended = False
        self.status = ""

    def receive(self, tokens: int) -> bool:
        """Read what has come; return whether the stream goes on."""
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except OSError:
            return False
        arrived = time.time()
        self.status = self.status or data[9:12].decode("ascii", "replace")
        if self.is_sampled:
            self._look_at(data, arrived)
        else:
            self._rest = (self._rest + data)[-len(END) - 8 :] if END not in data else END
        if END in data or END in self._rest:
            self.has_ended = not self.is_sampled or self.tokens == tokens
            return False
        return bool(data)

    def _look_at(self, data: bytes, arrived: float) -> None:
        text = self._rest + data
        at = 0
        for found in STAMP.finditer(text):
            self.delays_ms.append((arrived - float(found[1])) * 1000)
            self.tokens += 1
            at = found.end()
        self._rest = text[max(at, len(text) - 256) :]


def main() -> None:
    """Open the streams evenly, read them, and print what was seen."""
    url, body, streams, opening_seconds, tokens = sys.argv[1:]
    address = urlsplit(url)
    request = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer"
        f" {os.environ['KEY']}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    count, began = int(streams), time.time()
    poll, open_streams, done = select.epoll(), {}, []
    opened = 0
    every = max(1, count // SAMPLED)
    deadline = began + MAX_SECONDS
    while (opened < count or open_streams) and time.time() < deadline:
        due = min(count, int((time.time() - began) / float(opening_seconds) * count) + 1)
        while opened < due:
            sock = socket.create_connection((address.hostname, address.port), timeout=30)
            sock.sendall(request)
            sock.setblocking(False)
            poll.register(sock, select.EPOLLIN)
            open_streams[sock.fileno()] = Stream(sock, is_sampled=opened % every == 0)
            opened += 1
        for descriptor, _ in poll.poll(0.01 if opened < count else 1.0):
            stream = open_streams[descriptor]
            if not stream.receive(int(tokens)):
                poll.unregister(stream.sock)
                stream.sock.close()
                done.append(open_streams.pop(descriptor))
    delays = sorted(delay for stream in done for delay in stream.delays_ms)
    print(
        json.dumps(
            {
                "complete": sum(stream.has_ended for stream in done),
                "lost": count - sum(stream.has_ended for stream in done),
                "lost_statuses": Counter(one.status for one in done if not one.has_ended),
                "p50_ms": delays[len(delays) // 2] if delays else None,
                "p99_ms": delays[int(len(delays) * 0.99)] if delays else None,
                "max_ms": delays[-1] if delays else None,
                "seconds": time.time() - began,
            }
        )
    )


if __name__ == "__main__":
    main()
