"""The running provider and the calls that it was sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.provider.behaviours import BEHAVIOURS
from tests.provider.exchange import Exchange, HungUp, ProviderCall
from tests.support.waiting import eventually, slack


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = ProviderCall(body, {key.lower(): value for key, value in self.headers.items()})
        attempt = self.server.provider.note(call)
        try:
            exchange = Exchange(self, call, attempt, self.server.provider.gate)
            BEHAVIOURS[body["model"]](exchange)
        except HungUp:
            call.hung_up_at = time.monotonic()
            self.close_connection = True
        finally:
            call.is_over = True

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    provider: Provider

    def handle_error(self, *arguments: Any) -> None:
        """Say nothing of connections that were broken on purpose."""


class Provider:
    """The running server: `base_url`, and the `calls` it was sent."""

    def __init__(self) -> None:
        self.calls: list[ProviderCall] = []
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.provider = self
        self.base_url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    @contextmanager
    def running(self) -> Iterator[Provider]:
        """Serve until the end of the block."""
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()

    @contextmanager
    def closed_gate(self) -> Iterator[None]:
        """Leave the calls of the model `gated` unanswered until the end of the block."""
        self.gate.clear()
        try:
            yield
        finally:
            self.gate.set()

    def note(self, call: ProviderCall) -> int:
        """Keep a call; return how many there were of the same model and messages."""
        with self._lock:
            self.calls.append(call)
            return sum(
                (other.body["model"], other.body["messages"])
                == (call.body["model"], call.body["messages"])
                for other in self.calls
            )

    def calls_of(self, text: str) -> list[ProviderCall]:
        """Return the calls whose last message holds this text."""
        with self._lock:
            return [call for call in self.calls if text in call.text]

    def wait_for_call(self, text: str, *, seconds: float = 10.0) -> ProviderCall:
        """Return the first call whose last message holds this text, once it has come."""
        found = eventually(
            lambda: self.calls_of(text),
            seconds=seconds,
            what=f"a call with {text!r}",
            every_seconds=0.01,
        )
        return found[0]

    def seconds_until_hung_up(self, call: ProviderCall, *, since: float) -> float:
        """Return how long after `since` Headrace hung up on a call."""
        deadline = since + slack(10.0)
        while call.hung_up_at is None:
            assert not call.is_over, "the call was answered"
            assert time.monotonic() < deadline, "the call was left running"
            time.sleep(0.01)
        return call.hung_up_at - since
