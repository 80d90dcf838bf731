"""Receivers of notifications on 127.0.0.1 that behave as a test wants: over HTTP, and over SMTP."""

from __future__ import annotations

import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

HANG_SECONDS = 30.0


@dataclass
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float


class Receiver:
    """An HTTP server; what it does with each request is one of the functions below."""

    def __init__(self, behave: Behaviour, *, tls: ssl.SSLContext | None = None) -> None:
        self.behave = behave
        self.received: list[Received] = []
        self.is_over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.received.append(Received(self.path, headers, body, time.monotonic()))
                try:
                    outer.behave(outer, self)
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_port
        self._scheme = "https" if tls else "http"
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)

    def url(self, path: str = "/hook", *, host: str = "127.0.0.1") -> str:
        """Return an address of this server."""
        return f"{self._scheme}://{host}:{self.port}{path}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.is_over.set()
        self.server.shutdown()
        self.server.server_close()


Behaviour = Callable[[Receiver, BaseHTTPRequestHandler], None]


def answer(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Behaviour:
    """Answer at once."""

    def behave(_: Receiver, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def redirect(location: str, status: int = 307) -> Behaviour:
    """Lead elsewhere."""
    return answer(status, headers={"Location": location})


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Behave differently each time; the last one stays."""

    def behave(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
        behaviours[min(len(receiver.received), len(behaviours)) - 1](receiver, handler)

    return behave


def hang(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Never answer."""
    receiver.is_over.wait(HANG_SECONDS)
    handler.close_connection = True


def drip_headers(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Send a head that never ends, a byte at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _drip(receiver, handler)


def drip_body(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Send an error whose body never ends, a byte at a time."""
    handler.wfile.write(b"HTTP/1.1 500 Slow\r\nContent-Length: 100000\r\n\r\n")
    _drip(receiver, handler)


def endless_body(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Send an error whose body never ends, as fast as it is read."""
    handler.wfile.write(b"HTTP/1.1 500 Huge\r\nContent-Length: 100000000000\r\n\r\n")
    while not receiver.is_over.is_set():
        handler.wfile.write(b"x" * 65536)


def _without_end(head: bytes, piece: bytes) -> Behaviour:
    def behave(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head)
        while not receiver.is_over.is_set():
            handler.wfile.write(piece)

    return behave


_CHUNKED = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"
endless_continue = _without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
endless_trailers = _without_end(_CHUNKED + b"0\r\n", b"a: b\r\n" * 1000)
endless_extensions = _without_end(_CHUNKED, b"1;" + b"x" * 60_000 + b"\r\nx\r\n")
endless_headers = _without_end(b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 60_000 + b"\r\n")
endless_line = _without_end(b"", b"HTTP/1.1 200 " * 5000)


def garbage(_: Receiver, handler: BaseHTTPRequestHandler) -> None:
    """Answer with what is no HTTP."""
    handler.wfile.write(b"\x00\xff nonsense\r\n\r\n")
    handler.close_connection = True


def _drip(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
    while not receiver.is_over.wait(0.05):
        handler.wfile.write(b"x")
    handler.close_connection = True


class MailServer:
    """An SMTP server that answers RCPT with the next of its replies; the last one stays."""

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies or ["250 ok"])
        self.mails: list[bytes] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 test\r\n")
                while line := self.rfile.readline():
                    verb = line[:4].upper()
                    if verb == b"RCPT":
                        reply = outer.replies.pop(0) if len(outer.replies) > 1 else outer.replies[0]
                        self.wfile.write(f"{reply}\r\n".encode())
                    elif verb == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        lines = iter(self.rfile.readline, b".\r\n")
                        outer.mails.append(b"".join(lines))
                        self.wfile.write(b"250 ok\r\n")
                    elif verb == b"QUIT":
                        self.wfile.write(b"221 bye\r\n")
                        return
                    else:
                        self.wfile.write(b"250 ok\r\n")

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.server.shutdown()
        self.server.server_close()
