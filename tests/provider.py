"""A model provider that speaks OpenAI's chat completions over HTTP, and misbehaves on command.

The `model` of a request says how it behaves: the name of one of the functions under BEHAVIOURS.
Every request is kept in `Provider.calls`, with the moment at which Headrace hung up on it.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "sk-SECRET-of-the-provider"
WORDS = ("One ", "two ", "three ", "four ", "five ", "six ", "seven ", "eight.")
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
HANG_SECONDS = 60.0


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

    def __init__(self, handler: BaseHTTPRequestHandler, call: ProviderCall, attempt: int) -> None:
        self.call = call
        self.attempt = attempt
        self._handler = handler
        self._socket: socket.socket = handler.connection

    @property
    def is_stream(self) -> bool:
        """Whether chunks are wanted."""
        return bool(self.call.body.get("stream"))

    def send_json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send(status, json.dumps(body).encode(), headers)

    def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Send any bytes under a JSON content type."""
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", "application/json")
        self._handler.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self._write(data)

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
        self._write(b"%x\r\n%b\r\n" % (len(event), event))

    def end_stream(self) -> None:
        """Say that the stream is whole."""
        self.event("[DONE]")
        self._write(b"0\r\n\r\n")

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

    def _write(self, data: bytes) -> None:
        try:
            self._handler.wfile.write(data)
            self._handler.wfile.flush()
        except OSError as error:
            raise HungUp from error


Behaviour = Callable[[Exchange], None]
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(function: Behaviour) -> Behaviour:
    """Register a function as a model, `fail_500` as `fail-500`."""
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


# --- Good ones ----------------------------------------------------------------------------------
@behaviour
def hello(exchange: Exchange) -> None:
    """Answer at once."""
    exchange.answer("Hello ", "there.")


@behaviour
def echo(exchange: Exchange) -> None:
    """Answer with the request itself, as JSON."""
    exchange.answer(json.dumps(exchange.call.body))


@behaviour
def no_usage(exchange: Exchange) -> None:
    """Answer without token counts."""
    exchange.answer("Free ", "of charge.", usage=None)


@behaviour
def cut_short(exchange: Exchange) -> None:
    """Stop at the token limit."""
    exchange.answer("To be contin", reason="length")


@behaviour
def filtered(exchange: Exchange) -> None:
    """Stop at a content filter."""
    exchange.answer("I would", reason="content_filter")


@behaviour
def city(exchange: Exchange) -> None:
    """Answer with an object, as `response_format` may ask for."""
    exchange.answer('{"city": ', '"Oslo"}')


@behaviour
def empty(exchange: Exchange) -> None:
    """Answer nothing at all."""
    exchange.answer()


@behaviour
def nul(exchange: Exchange) -> None:
    """Answer with a character that PostgreSQL cannot store."""
    exchange.answer("a\0b")


@behaviour
def tool_call(exchange: Exchange) -> None:
    """Call two tools; once their results are there, answer."""
    if exchange.call.body["messages"][-1]["role"] == "tool":
        exchange.answer("It is sunny.")
        return
    exchange.answer(
        tool_calls=[
            {
                "id": f"call_{city}",
                "type": "function",
                "function": {"name": "weather", "arguments": json.dumps({"city": city})},
            }
            for city in ("Oslo", "Rome")
        ],
        reason="tool_calls",
    )


@behaviour
def slow_stream(exchange: Exchange) -> None:
    """Say eight words, one each 0.15 s."""
    exchange.answer(*WORDS, pause_seconds=0.15)


@behaviour
def slow_start(exchange: Exchange) -> None:
    """Be silent for longer than a heartbeat, then answer."""
    exchange.wait(2.5)
    exchange.answer("At ", "last.")


@behaviour
def slow_echo(exchange: Exchange) -> None:
    """Answer with the request itself, after a second."""
    exchange.wait(1.0)
    echo(exchange)


@behaviour
def many_chunks(exchange: Exchange) -> None:
    """Say more words than any buffer holds, as fast as they are taken."""
    exchange.answer(*(f"{number} " for number in range(3000)))


@behaviour
def short_summary(exchange: Exchange) -> None:
    """Summarize anything in a few words."""
    exchange.answer("A short ", "summary.")


@behaviour
def slow_summary(exchange: Exchange) -> None:
    """Take more than a heartbeat for a summary."""
    exchange.wait(1.3)
    exchange.answer("A short ", "summary.")


# --- Bad answers --------------------------------------------------------------------------------
@behaviour
def fail_429_twice(exchange: Exchange) -> None:
    """Be busy for the first two attempts."""
    if exchange.attempt <= 2:
        exchange.fail(429, headers={"Retry-After": "0.05"})
    else:
        hello(exchange)


@behaviour
def fail_500_twice(exchange: Exchange) -> None:
    """Fail the first two attempts."""
    if exchange.attempt <= 2:
        exchange.fail(500)
    else:
        hello(exchange)


@behaviour
def works_once(exchange: Exchange) -> None:
    """Answer the first attempt, and fail from then on."""
    if exchange.attempt == 1:
        hello(exchange)
    else:
        exchange.fail(500)


@behaviour
def fail_429(exchange: Exchange) -> None:
    """Be busy for ever."""
    exchange.fail(429, headers={"Retry-After": "0.05"})


@behaviour
def fail_429_for_long(exchange: Exchange) -> None:
    """Be busy, and say that it will take a while."""
    exchange.fail(429, headers={"Retry-After": "17"})


@behaviour
def fail_500(exchange: Exchange) -> None:
    """Fail for ever."""
    exchange.fail(500)


@behaviour
def fail_whole(exchange: Exchange) -> None:
    """Summarize parts, and fail at what is made of them."""
    if exchange.call.text.startswith("Summarize this part"):
        exchange.answer("A short ", "summary.")
    else:
        exchange.fail(500)


@behaviour
def fail_503(exchange: Exchange) -> None:
    """Be overloaded for ever."""
    exchange.fail(503)


@behaviour
def leaky_401(exchange: Exchange) -> None:
    """Refuse the key, and quote it."""
    exchange.fail(401)


@behaviour
def leaky_400(exchange: Exchange) -> None:
    """Refuse the request, and quote the key."""
    exchange.fail(400)


@behaviour
def too_long(exchange: Exchange) -> None:
    """Refuse the request for its length."""
    exchange.fail(400, code="context_length_exceeded")


@behaviour
def bad_json(exchange: Exchange) -> None:
    """Send something that is no JSON."""
    exchange.send(200, f'{{"choices": [{SECRET}'.encode())


@behaviour
def no_choices(exchange: Exchange) -> None:
    """Send an answer that is none."""
    exchange.send_json(200, {"id": SECRET, "object": "chat.completion", "choices": []})


# --- Silence and broken connections -------------------------------------------------------------
@behaviour
def hang(exchange: Exchange) -> None:
    """Never answer."""
    exchange.wait(HANG_SECONDS)


@behaviour
def stall_mid_stream(exchange: Exchange) -> None:
    """Say three words and fall silent."""
    _three_words(exchange)
    exchange.wait(HANG_SECONDS)


@behaviour
def reset_mid_stream(exchange: Exchange) -> None:
    """Break off after three words."""
    _three_words(exchange)
    exchange.reset()


@behaviour
def cut_mid_stream(exchange: Exchange) -> None:
    """Close the connection after three words, without the end that HTTP wants."""
    _three_words(exchange)
    exchange.cut()


@behaviour
def ends_mid_stream(exchange: Exchange) -> None:
    """End the answer as HTTP wants, after three words and without a reason, as some proxies do."""
    _three_words(exchange)
    exchange._write(b"0\r\n\r\n")


@behaviour
def error_mid_stream(exchange: Exchange) -> None:
    """Send an error, with a secret in it, after three words."""
    _three_words(exchange)
    exchange.event({"error": {"message": SECRET, "type": "server_error", "code": None}})
    exchange.end_stream()


@behaviour
def reset_at_once(exchange: Exchange) -> None:
    """Break off before the answer."""
    exchange.reset()


def _three_words(exchange: Exchange) -> None:
    exchange.begin_stream()
    for word in WORDS[:3]:
        exchange.delta({"content": word})
    # Time for the words to be read: a reset throws away what lies unread.
    exchange.wait(0.1)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = ProviderCall(body, {key.lower(): value for key, value in self.headers.items()})
        attempt = self.server.provider.note(call)
        try:
            BEHAVIOURS[body["model"]](Exchange(self, call, attempt))
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
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @contextmanager
    def running(self) -> Iterator[Provider]:
        """Serve until the end of the block."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

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
        deadline = time.monotonic() + seconds
        while not (found := self.calls_of(text)):
            assert time.monotonic() < deadline, f"no call with {text!r}"
            time.sleep(0.01)
        return found[0]

    def seconds_until_hung_up(self, call: ProviderCall, *, since: float) -> float:
        """Return how long after `since` Headrace hung up on a call."""
        deadline = since + 10.0
        while call.hung_up_at is None:
            assert not call.is_over, "the call was answered"
            assert time.monotonic() < deadline, "the call was left running"
            time.sleep(0.01)
        return call.hung_up_at - since
