"""A node that returns what HAProxy sent it, and records when HAProxy disconnects."""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STREAM_PAUSE_SECONDS = 0.1
LIMITED_SECONDS = 0.05
# Credentials that end so are an account's.
KNOWN = "-known"
STATIC_HEADERS = {
    "cache-control": "max-age=315360000, public, immutable",
    "strict-transport-security": "max-age=1; preload",
}


class Counting:
    """The number of threads inside at a time, and their maximum."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self.inside -= 1


class FakeNode(ThreadingHTTPServer):
    """Answers /health/ready, /echo, /stream (a chunk every 100 ms) and /wait (never).

    And /static/ (cacheable for ever), /fail (500), /bad (what is no HTTP), and /v1/limit/N/M,
    which limits HAProxy (after 50 ms) to N at a time and M that wait, and says whether it knows the
    credentials. As many requests as
    `resets` says are read, and then their connection is reset. A check is answered after
    `check_seconds`, with `check_status`.
    """

    daemon_threads = True

    def __init__(self, name: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.name = name
        self.port = int(self.server_address[1])
        self.requests: list[str] = []
        self.checks = 0
        self.check_seconds = 0.0
        self.check_status = 200
        self.resets = 0
        self.counting = Counting()
        self.says_limits = True
        self.has_client = threading.Event()
        self.lost_client = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening; what is running goes on."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing about clients that disconnected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeNode

    def do_GET(self) -> None:
        if self.path == "/health/ready":
            self.server.checks += 1
            time.sleep(self.server.check_seconds)
            self._echo(status=self.server.check_status)
        else:
            self._answer()

    def do_OPTIONS(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer()

    do_HEAD = do_GET
    do_DELETE = do_POST

    def _answer(self) -> None:
        self.server.requests.append(self.path)
        if self.server.resets > 0:
            self.server.resets -= 1
            self._reset()
        elif self.path in {"/stream", "/v1/stream"}:
            self._stream()
        elif self.path == "/wait":
            self._wait()
        elif self.path == "/fail":
            self._echo(status=500)
        elif self.path.startswith("/v1/limit/"):
            limit = self.path.removeprefix("/v1/limit/").replace("/", " ")
            with self.server.counting:
                time.sleep(LIMITED_SECONDS)
            more = {"x-headrace-limit": limit} if self.server.says_limits else {}
            if self.headers.get("authorization", "").endswith(KNOWN):
                more["x-headrace-known"] = "1"
            self._echo(more)
        elif self.path == "/bad":
            self.wfile.write(b"what?\r\n\r\n")
            self.close_connection = True
        elif self.path.startswith(("/static/", "/v1/schema")):
            self._echo(STATIC_HEADERS)
        else:
            self._echo()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def _echo(self, more: Mapping[str, str] = {}, *, status: int = 200) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"node": self.server.name, "headers": headers}).encode()
        self.send_response(status)
        for name, value in {**more, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        # A linger of no time makes a close a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.server.has_client.set()
        try:
            while True:
                data = f"data: {time.monotonic()}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
                time.sleep(STREAM_PAUSE_SECONDS)
        except OSError:
            self.server.lost_client.set()

    def _wait(self) -> None:
        self.server.has_client.set()
        # Readable without a request means closed.
        select.select([self.connection], [], [], 30)
        self.server.lost_client.set()
        self.close_connection = True


if __name__ == "__main__":
    # In a process of its own, which a test may freeze.
    alone = FakeNode(sys.argv[1])
    sys.stdout.write(f"{alone.port}\n")
    sys.stdout.flush()
    signal.pause()
