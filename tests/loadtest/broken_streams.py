"""A server that answers every chat with a stream that is wrong, each time in another way."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
# After two tokens: a cut connection, an error, half an event, and the end without its mark.
ENDS = (None, b'data: {"error": {"code": "boom"}}\n\n', b'data: {"choi\n\n', b"")


class Handler(BaseHTTPRequestHandler):
    """Answers with two tokens and a wrong end."""

    protocol_version = "HTTP/1.1"
    ends = itertools.cycle(ENDS)

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.send(TOKEN)
        self.send(TOKEN)
        end = next(self.ends)
        if end is None:
            self.close_connection = True
            return
        if end:
            self.send(end)
        self.send(b"")

    def send(self, data: bytes) -> None:
        """Send a chunk; an empty one is the last."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def running() -> Iterator[str]:
    """Run the server; yields its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
