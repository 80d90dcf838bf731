"""Many streams at once, and how late each token of each of them comes."""

import json
import socket
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import gevent
from gevent import socket as gsocket

from loadtest.settings import TOKENS_PER_SECOND, TOKENS_PER_STREAM

OPENING_SECONDS = 5.0
CONNECT_ATTEMPTS = 3


@dataclass
class StreamResult:
    """Delays of all tokens in milliseconds; complete streams, and why others were not."""

    delays_ms: list[float] = field(default_factory=list)
    whole: int = 0
    lost: list[str] = field(default_factory=list)


def measure(url: str, *, key: str, streams: int) -> tuple[StreamResult, float]:
    """Open `streams` over five seconds and read them all to their end.

    Returns the result and the time at which all were open, as `time.time()`.
    """
    result = StreamResult()
    all_open_at = time.time() + OPENING_SECONDS
    readers = [
        gevent.spawn_later(OPENING_SECONDS * number / streams, read, url, key, result)
        for number in range(streams)
    ]
    gevent.joinall(readers, timeout=OPENING_SECONDS + TOKENS_PER_STREAM / TOKENS_PER_SECOND + 30)
    for reader in readers:
        if not reader.ready():
            result.lost.append("did not end")
            reader.kill()
    return result, all_open_at


def read(url: str, key: str, result: StreamResult) -> None:
    """Read one stream to its end and note its delays, or how it was lost."""
    address = urlsplit(url)
    body = json.dumps(
        {"model": "ticker", "stream": True, "messages": [{"role": "user", "content": "go"}]}
    )
    request = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    tokens = 0
    try:
        connection = gsocket.create_connection((address.hostname, address.port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as lines:
            connection.sendall(request.encode())
            if b" 200 " not in (status := lines.readline()):
                raise RuntimeError(status.decode())
            for line in lines:
                arrived = time.time()
                if b'"content":"' not in line or b'"content":""' in line:
                    continue
                sent = float(line.split(b'"content":"', 1)[1].split(b" ", 1)[0])
                result.delays_ms.append((arrived - sent) * 1000)
                tokens += 1
        if tokens != TOKENS_PER_STREAM:
            raise RuntimeError(f"{tokens} of {TOKENS_PER_STREAM} tokens")
        result.whole += 1
    except (OSError, RuntimeError, ValueError) as error:
        result.lost.append(str(error))
