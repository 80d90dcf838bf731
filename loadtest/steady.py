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
from typing import Self
from urllib.parse import urlsplit

import gevent
import gevent.event
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
    """The answers; times in milliseconds, moments by time.monotonic()."""

    sent: int = 0
    sent_unkeyed: int = 0
    # Those under way, with an Idempotency-Key and without.
    in_flight: Counter[bool] = field(default_factory=Counter)
    # Refusals are those that a client can act on: 429 or 503 with Retry-After.
    refused_ms: list[float] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)
    good_ms: list[float] = field(default_factory=list)
    good_at: list[float] = field(default_factory=list)
    # All else, by what it was; those with an Idempotency-Key apart.
    lost: Counter[str] = field(default_factory=Counter)
    lost_keyed: Counter[str] = field(default_factory=Counter)

    def good_between(self, began: float, ended: float) -> int:
        """Return how many good answers came in this time."""
        return sum(1 for at in self.good_at if began <= at < ended)

    def last_trouble_at(self, *, slow_ms: float) -> float | None:
        """Return when the last refusal or slow answer came."""
        slow = [at for at, ms in zip(self.good_at, self.good_ms, strict=True) if ms > slow_ms]
        return max([*slow, *self.refused_at], default=None)


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of the values are below; 0 of nothing."""
    return sorted(values)[int(len(values) * share)] if values else 0.0


class SteadyLoad:
    """Sends uncached chat requests at a steady pace, without waiting for answers.

    What is under way at the end is waited for.
    """

    def __init__(
        self, ours: Headrace, *, per_second: float, keyed_share: float = KEYED_SHARE
    ) -> None:
        self.answers = Answers()
        self._per_second = per_second
        self._client = _Client(ours, keyed_share)
        self._pool = Pool(MAX_IN_FLIGHT)
        self._sender = gevent.Greenlet(self._send_all)

    def __enter__(self) -> Self:
        self._sender.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._sender.kill()
        self._pool.join(timeout=TIMEOUT_SECONDS)

    def change(self, *, per_second: float) -> Answers:
        """Go on at another pace, and return what becomes of the requests from now on."""
        self._per_second = per_second
        self.answers = Answers()
        return self.answers

    def _send_all(self) -> None:
        due = time.monotonic()
        while True:
            self._pool.spawn(self._client.send, self.answers)
            due += random.expovariate(self._per_second)
            gevent.sleep(max(0.0, due - time.monotonic()))


@contextmanager
def open_streams(ours: Headrace, *, count: int) -> Iterator[streams.StreamResult]:
    """Open so many streams through HAProxy; each that ends is followed by another.

    At the end they are left to end by themselves.
    """
    result = streams.StreamResult()
    is_over = gevent.event.Event()

    def hold_one() -> None:
        gevent.sleep(random.uniform(0, 5))
        while not is_over.is_set():
            streams.read(f"{ours.url}{CHAT}", ours.key, result)

    readers = [gevent.spawn(hold_one) for _ in range(count)]
    try:
        yield result
    finally:
        is_over.set()
        gevent.joinall(readers, timeout=TIMEOUT_SECONDS)
        gevent.killall(readers)


class _Client:
    """HTTP over persistent connections, with as little of the machine as Python can do with."""

    def __init__(self, ours: Headrace, keyed_share: float) -> None:
        target = urlsplit(ours.url)
        self._address = (str(target.hostname), int(target.port or 80))
        self._keyed_share = keyed_share
        self._idle: list[gsocket.socket] = []
        self._head = (
            f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ours.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
        )

    def send(self, into: Answers) -> None:
        """Send one request, and note what came."""
        is_keyed = random.random() < self._keyed_share
        extra = f"Idempotency-Key: {uuid.uuid4().hex}\r\n" if is_keyed else ""
        into.sent += 1
        into.sent_unkeyed += not is_keyed
        into.in_flight[is_keyed] += 1
        began = time.monotonic()
        try:
            status, head, body = self._send(f"{self._head}{extra}\r\n{BODY}".encode())
        except (OSError, ValueError, LookupError) as error:
            (into.lost_keyed if is_keyed else into.lost)[f"{type(error).__name__}: {error}"] += 1
            return
        finally:
            into.in_flight[is_keyed] -= 1
        now = time.monotonic()
        if status == 200 and ANSWER.encode() in body:
            into.good_ms.append((now - began) * 1000)
            into.good_at.append(now)
        elif status in (429, 503) and b"\r\nretry-after:" in head:
            into.refused_ms.append((now - began) * 1000)
            into.refused_at.append(now)
        else:
            (into.lost_keyed if is_keyed else into.lost)[str(status)] += 1

    def _send(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Return status, head in small letters, and body."""
        connection = self._take()
        try:
            connection.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data:
                data += _more(connection)
            head, _, body = data.partition(b"\r\n\r\n")
            head = head.lower()
            length = int(head.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
            while len(body) < length:
                body += _more(connection)
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
            look = select.poll()
            look.register(connection.fileno(), select.POLLIN)
            if not look.poll(0):
                return connection
            connection.close()
        made = gsocket.create_connection(self._address, timeout=TIMEOUT_SECONDS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made


def _more(connection: gsocket.socket) -> bytes:
    data: bytes = connection.recv(65_536)
    if not data:
        raise ConnectionResetError("closed before its end")
    return data
