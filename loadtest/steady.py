"""A steady load, and every answer that a client would not have liked."""

from __future__ import annotations

import json
import random
import select
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import gevent
from gevent import socket as gsocket
from gevent.pool import Pool

from loadtest import streams
from loadtest.servers import Headrace
from loadtest.settings import ANSWER, QUESTION

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "fake-chat", "messages": [{"role": "user", "content": QUESTION}]})
MAX_IN_FLIGHT = 5000
TIMEOUT_SECONDS = 30
# Every other request can be repeated safely, and says so.
KEYED_SHARE = 0.5


@dataclass
class Answers:
    """What came back; times in milliseconds."""

    asked: int = 0
    good: int = 0
    # Refusals that a client can act on: 429 or 503 with Retry-After.
    refused: int = 0
    # All else, by what it was; those with an Idempotency-Key apart.
    lost: Counter[str] = field(default_factory=Counter)
    lost_keyed: Counter[str] = field(default_factory=Counter)
    good_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    # When each good answer came, by time.monotonic().
    good_at: list[float] = field(default_factory=list)


@contextmanager
def steady_load(ours: Headrace, *, per_second: float, path: str = CHAT) -> Iterator[Answers]:
    """Send uncached chat requests at a steady pace, whatever becomes of them."""
    answers = Answers()
    target = urlsplit(ours.url)
    address = (str(target.hostname), int(target.port or 80))
    sender = gevent.spawn(_send_all, address, path, ours.key, per_second, answers)
    try:
        yield answers
    finally:
        sender.kill()


def _send_all(address: tuple[str, int], path: str, key: str, rate: float, into: Answers) -> None:
    client = _Client(address)
    pool = Pool(MAX_IN_FLIGHT)
    due = time.monotonic()
    try:
        while True:
            pool.spawn(_send, client, path, key, into)
            due += random.expovariate(rate)
            gevent.sleep(max(0.0, due - time.monotonic()))
    finally:
        pool.join(timeout=TIMEOUT_SECONDS)


def _send(client: _Client, path: str, key: str, into: Answers) -> None:
    is_keyed = random.random() < KEYED_SHARE
    extra = f"Idempotency-Key: {uuid.uuid4().hex}\r\n" if is_keyed else ""
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\n{extra}Content-Length: {len(BODY)}\r\n\r\n{BODY}"
    )
    into.asked += 1
    began = time.monotonic()
    try:
        status, head, body = client.ask(request.encode())
    except (OSError, ValueError) as error:
        (into.lost_keyed if is_keyed else into.lost)[f"{type(error).__name__}: {error}"] += 1
        return
    now = time.monotonic()
    if status == 200 and ANSWER.encode() in body:
        into.good += 1
        into.good_ms.append((now - began) * 1000)
        into.good_at.append(now)
    elif status in (429, 503) and b"\r\nretry-after:" in head:
        into.refused += 1
        into.refused_ms.append((now - began) * 1000)
    else:
        (into.lost_keyed if is_keyed else into.lost)[str(status)] += 1


class _Client:
    """HTTP over kept connections, with as little of the machine as Python can do with."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._idle: list[gsocket.socket] = []

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Return status, head in small letters, and body; raises OSError and ValueError."""
        connection = self._take()
        try:
            connection.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data:
                data += self._more(connection)
            head, _, body = data.partition(b"\r\n\r\n")
            head = head.lower()
            length = int(head.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
            while len(body) < length:
                body += self._more(connection)
        except BaseException:
            connection.close()
            raise
        if b"\r\nconnection: close" in head:
            connection.close()
        else:
            self._idle.append(connection)
        return int(head.split(b" ", 2)[1]), head, body

    def _take(self) -> gsocket.socket:
        while self._idle:
            connection = self._idle.pop()
            # A server may have closed it; a client must look before it sends.
            if not select.select([connection], [], [], 0)[0]:
                return connection
            connection.close()
        made = gsocket.create_connection(self._address, timeout=TIMEOUT_SECONDS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _more(self, connection: gsocket.socket) -> bytes:
        data: bytes = connection.recv(65_536)
        if not data:
            raise ConnectionResetError("closed before its end")
        return data


@contextmanager
def open_streams(ours: Headrace, *, count: int) -> Iterator[streams.StreamResult]:
    """Keep so many streams open through HAProxy; each that ends is followed by another."""
    result = streams.StreamResult()
    url = f"{ours.url}/v1/chat/completions"

    def keep_one() -> None:
        gevent.sleep(random.uniform(0, 5))
        while True:
            streams.read(url, ours.key, result)

    readers = [gevent.spawn(keep_one) for _ in range(count)]
    try:
        yield result
    finally:
        gevent.killall(readers)
