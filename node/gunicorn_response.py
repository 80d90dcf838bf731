"""Send a response's headers and the beginning of its body in one write."""

from __future__ import annotations

import time
from typing import Any

from gunicorn.http.wsgi import Response

from node.draining import DRAINING
from node.gunicorn_body import unread_bytes
from node.metrics import REQUEST_SECONDS

# So much of a body comes with its head, from HAProxy at least.
READ_AT_ONCE_BYTES = 64 * 1024

# The header that the access log shows.
LOGGED = "x-request-id"


class OneWriteResponse(Response):  # type: ignore[misc]
    """gunicorn's response to one request, with one write less.

    gunicorn sends the headers by themselves and then the body: two system calls, two packets, and
    a proxy that wakes up twice. Here the headers wait for the first bytes of the body, which for a
    stream come with them (chat.running.sse.PrimedStream).
    """

    headers_sent: bool
    headers: list[tuple[str, str]]
    _head = b""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._began = time.monotonic()

    def send_headers(self) -> None:
        """Render the headers, and buffer them."""
        if self.headers_sent:
            return
        # While a node drains, the client's next request is another node's. What is left of a body
        # may not come in time, and a proxy must not send the next request after it.
        if DRAINING.is_on or unread_bytes(self.req.body) > READ_AT_ONCE_BYTES:
            self.force_close()
        lines = [*self.default_headers(), *(f"{k}: {v}\r\n" for k, v in self.headers), "\r\n"]
        self._head = "".join(lines).encode("latin-1")
        self.headers_sent = True
        if self.chunked:
            # A stream may go on for minutes, in which only these are read.
            self.headers = [item for item in self.headers if item[0].lower() == LOGGED]
            self.req.headers = [item for item in self.req.headers if item[0] == "CONNECTION"]

    def can_sendfile(self) -> bool:
        """Return False: the system's sendfile would leave the headers behind."""
        return False

    def close(self) -> None:
        """End the response; one without a body is its headers alone."""
        if not self.headers_sent:
            self.send_headers()
        self._send(b"")
        super().close()

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if head:
            REQUEST_SECONDS.observe(time.monotonic() - self._began)
        if head or data:
            self.sock.sendall(head + data)
