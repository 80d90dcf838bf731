"""A node that tells what HAProxy sent it, and notices when HAProxy hangs up."""

from __future__ import annotations

import json
import select
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STREAM_PAUSE_SECONDS = 0.1


class FakeNode(ThreadingHTTPServer):
    """Answers /health/ready, /echo, /stream (a chunk every 100 ms) and /wait (never)."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = name
        self.port = int(self.server_address[1])
        self.requests: list[str] = []
        self.has_client = threading.Event()
        self.lost_client = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening; what is running goes on."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that left."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeNode

    def do_GET(self) -> None:
        if self.path != "/health/ready":
            self.server.requests.append(self.path)
        if self.path == "/stream":
            self._stream()
        elif self.path == "/wait":
            self._wait()
        else:
            self._echo()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._echo()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _echo(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"node": self.server.name, "headers": headers}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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
