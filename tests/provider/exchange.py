"""A request to the provider, and the means to answer it, well or badly."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

SECRET = "sk-SECRET-of-the-provider"
GATE_STEP_SECONDS = 0.05
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class HungUp(Exception):
    """The other side closed the connection before it had its answer."""


@dataclass
class ProviderCall:
    """One request as it came, and how it ended."""

    body: dict[str, Any]
    headers: dict[str, str]
    started_at: float = field(default_factory=time.monotonic)
    hung_up_at: float | None = None
    is_over: bool = False

    @property
    def text(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])


class Exchange:
    """One request and the means to answer it, well or badly."""

    def __init__(
        self,
        handler: BaseHTTPRequestHandler,
        call: ProviderCall,
        attempt: int,
        gate: threading.Event,
    ) -> None:
        self.call = call
        self.attempt = attempt
        self._gate = gate
        self._handler = handler
        self._socket: socket.socket = handler.connection

    @property
    def is_stream(self) -> bool:
        """Whether chunks are wanted."""
        return bool(self.call.body.get("stream"))

    def send_json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send(status, json.dumps(body).encode(), headers)

    def send_bytes(
        self, data: bytes, *, content_type: str, headers: dict[str, str] | None = None
    ) -> None:
        """Send any bytes with status 200."""
        self.send(200, data, headers, content_type=content_type)

    def send(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str] | None = None,
        *,
        content_type: str = "application/json",
    ) -> None:
        """Send any bytes."""
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", content_type)
        self._handler.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self.write(data)

    def fail(
        self,
        status: int,
        *,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send an error whose text holds a secret."""
        error = {"message": f"wrong: {SECRET}", "type": SECRET, "param": SECRET, "code": code}
        self.send_json(status, {"error": error}, headers)

    def begin_stream(self) -> None:
        """Send the status and headers of a stream of events."""
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", "text/event-stream")
        self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()

    def event(self, data: Any) -> None:
        """Send one event."""
        text = data if isinstance(data, str) else json.dumps(data)
        event = f"data: {text}\n\n".encode()
        self.write(b"%x\r\n%b\r\n" % (len(event), event))

    def end_stream(self) -> None:
        """Say that the stream is whole."""
        self.event("[DONE]")
        self.write(b"0\r\n\r\n")

    def delta(self, delta: dict[str, Any], reason: str | None = None) -> None:
        """Send one chunk of an answer."""
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        self.event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def answer(
        self,
        *pieces: str,
        pause_seconds: float = 0.0,
        tool_calls: list[dict[str, Any]] | None = None,
        reason: str = "stop",
        usage: dict[str, int] | None = USAGE,
    ) -> None:
        """Answer as a good provider does: whole, or in these pieces."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(pieces) or None}
        if tool_calls:
            message["tool_calls"] = tool_calls
        if not self.is_stream:
            self.wait(pause_seconds * len(pieces))
            choice = {"index": 0, "message": message, "finish_reason": reason}
            body = {**self._head("chat.completion"), "choices": [choice]}
            self.send_json(200, {**body, "usage": usage} if usage else body)
            return
        self.begin_stream()
        self.delta({"role": "assistant", "content": ""})
        for piece in pieces:
            self.delta({"content": piece})
            self.wait(pause_seconds)
        for index, call in enumerate(tool_calls or []):
            self._tool_call(index, call)
        self.delta({}, reason)
        if usage and (self.call.body.get("stream_options") or {}).get("include_usage"):
            self.event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage})
        self.end_stream()

    def wait(self, seconds: float) -> None:
        """Wait; raises HungUp as soon as the other side closes the connection."""
        if not seconds:
            return
        readable, _, _ = select.select([self._socket], [], [], seconds)
        if readable and not self._socket.recv(1, socket.MSG_PEEK):
            raise HungUp

    def wait_for_gate(self) -> None:
        """Wait until the test opens the provider's gate; raises HungUp as `wait` does."""
        while not self._gate.is_set():
            self.wait(GATE_STEP_SECONDS)

    def reset(self) -> None:
        """Break the connection off as a crashing server does."""
        linger_none = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
        self.cut()

    def cut(self) -> None:
        """Close the connection in the middle of an answer."""
        self._handler.close_connection = True
        self._handler.wfile.flush()
        self._socket.close()

    def _tool_call(self, index: int, call: dict[str, Any]) -> None:
        function = call["function"]
        head = {**call, "index": index, "function": {"name": function["name"], "arguments": ""}}
        self.delta({"tool_calls": [head]})
        arguments = function["arguments"]
        for start in range(0, len(arguments), 5):
            piece = {"arguments": arguments[start : start + 5]}
            self.delta({"tool_calls": [{"index": index, "function": piece}]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": self.call.body["model"]}

    def write(self, data: bytes) -> None:
        try:
            self._handler.wfile.write(data)
            self._handler.wfile.flush()
        except OSError as error:
            raise HungUp from error
