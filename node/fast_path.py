"""The fast path: answer a complete, plain request before gunicorn parses it.

gunicorn's parser, WSGI environment and response are written in Python and cost several times what a
cached answer costs. This parser looks at the first bytes of each request; if they are one complete
request of the plainest form, it sends its handler's response. All other data, and every doubt, goes
back to gunicorn's parser byte for byte.

The accepted form is narrower than HTTP, so that no two parsers could read it differently: one
read from the socket holds all of it and nothing beyond; every header is one of a list, comes once,
and is printable ASCII; the length is a plain number; there is no transfer coding, no upgrade, no
`Expect`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, NamedTuple

from gunicorn.http.parser import RequestParser

from node.draining import DRAINING
from node.loop_turns import LOOP_TURNS

END = b"\r\n\r\n"
MAX_HEAD_BYTES = 8000
# Others, such as Cache-Control, Expect or Transfer-Encoding, are gunicorn's and Django's to read.
HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-request-id",
    }
)
# A path that all parsers read in one way: without escapes, query or fragment.
PATH = re.compile(r"/[\w/.-]*", re.ASCII)
# Headers of OpenAI's SDKs about themselves. gunicorn refuses a name that is no token (RFC 9110).
SDK_HEADER = re.compile(r"x-stainless-[a-z0-9-]+", re.ASCII)


class FastResponse(NamedTuple):
    """An answer: status and reason, headers, body."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


# Takes path, headers by small names, and body; returns None for a request it does not answer.
Handler = Callable[[str, Mapping[str, str], bytes], FastResponse | None]


class FastPath:
    """The part that the parsers of a worker share: the handler, and whether the worker serves."""

    def __init__(self, handler: Handler, worker: Any) -> None:
        self._handler = handler
        self._worker = worker
        self._date = b""
        self._date_until = 0.0

    @property
    def is_on(self) -> bool:
        """Whether this worker serves, and does not stop."""
        return bool(self._worker.alive) and not DRAINING.is_on

    def answer(self, data: bytes, *, is_last: bool) -> bytes | None:
        """Return the bytes to send for a request, or None for one that gunicorn must read."""
        end = data.find(END, 0, MAX_HEAD_BYTES)
        if end < 0:
            return None
        head = data[:end].decode("latin-1").split("\r\n")
        method, _, rest = head[0].partition(" ")
        path, _, version = rest.partition(" ")
        if method != "POST" or version != "HTTP/1.1" or not PATH.fullmatch(path):
            return None
        headers = _read_headers(head)
        if headers is None or headers.get("connection", "keep-alive").lower() != "keep-alive":
            return None
        length = headers.get("content-length", "")
        body = data[end + 4 :]
        if not (length.isdecimal() and str(len(body)) == length and "host" in headers):
            return None
        response = self._handler(path, headers, body)
        return None if response is None else self._as_bytes(response, is_last=is_last)

    def _as_bytes(self, response: FastResponse, *, is_last: bool) -> bytes:
        now = time.time()
        if now >= self._date_until:
            self._date_until = int(now) + 1.0
            self._date = formatdate(now, usegmt=True).encode()
        lines = "".join([f"{name}: {value}\r\n" for name, value in response.headers])
        return b"HTTP/1.1 %b\r\nServer: gunicorn\r\nDate: %b\r\nConnection: %b\r\n%b\r\n%b" % (
            response.status.encode(),
            self._date,
            b"close" if is_last else b"keep-alive",
            lines.encode("latin-1"),
            response.body,
        )


class FastPathParser(RequestParser):  # type: ignore[misc]
    """gunicorn's parser of one connection, for the requests that the fast path did not answer."""

    def __init__(self, fast_path: FastPath, *arguments: Any) -> None:
        self._fast_path = fast_path
        super().__init__(*arguments)

    def __next__(self) -> Any:
        """Answer by the fast path while it can, then return the next request."""
        is_last = self.mesg and self.mesg.should_close()
        if self._fast_path.is_on and not is_last and self.finish_body():
            # gunicorn ends the wait for a request after `keepalive` seconds, answers included.
            until = time.monotonic() + self.cfg.keepalive / 2
            while self._answer_one(until):
                pass
        return super().__next__()

    def _answer_one(self, until: float) -> bool:
        """Answer the next request by the fast path; False leaves it for gunicorn."""
        data = self.unreader.read()
        now = time.monotonic()
        is_last = now >= until
        is_on = self._fast_path.is_on and bool(data)
        reply = self._fast_path.answer(data, is_last=is_last) if is_on else None
        if reply is None:
            self.unreader.unread(data)
            return False
        self.unreader.sock.sendall(reply)
        if is_last:
            raise StopIteration
        LOOP_TURNS.yield_to_loop(now)
        return True


def _read_headers(head: list[str]) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    for line in head[1:]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name in headers or not line.isprintable() or not line.isascii():
            return None
        if name not in HEADERS and not SDK_HEADER.fullmatch(name):
            return None
        headers[name] = value.strip(" ")
    return headers
