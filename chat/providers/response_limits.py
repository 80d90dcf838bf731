"""Bound the cost of a model provider's answer, where the provider's SDK reads by httpx.

An SDK reads an answer to its end, and a line or an event of a stream until it is complete: one of
gigabytes, one that a small compressed body makes, or one without an end takes the memory of all
requests. So each response's bytes are counted, decompressed, before the SDK sees them.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any

from django.conf import settings

from chat.providers.wire import AnswerTooLarge, expect_body, trace, trace_async

# Decompressed at once.
PIECE_BYTES = 65_536
# Reads gzip's header and zlib's.
_ANY_HEADER = zlib.MAX_WBITS | 32
ENCODINGS = ("gzip", "x-gzip", "deflate")
EVENT_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")
LONGEST_END = 3
# A provider's events have one or two. Each line counts as a copy of the whole event.
MAX_EVENT_LINES = 100
# The attributes of SDKs with their own client, and of that client with its HTTP client.
_SDK_NAMES = ("root_client", "root_async_client", "client", "async_client", "_client")
_HTTP_NAMES = ("_client", "client")


def encoding_of(headers: Any) -> str:
    """Return a response's compression, "" for none; raises ConnectionError for an unknown one."""
    encoding = str(headers.get("content-encoding", "")).strip().lower()
    if encoding in ENCODINGS:
        return encoding
    if encoding in ("", "identity"):
        return ""
    raise ConnectionError("the answer is compressed in a way that was not requested")


def bound_answers(model: Any) -> int:
    """Bound the answers of a LangChain model; return how many HTTP clients it has.

    A model whose SDK uses no httpx has none, and is not bounded.
    """
    clients = {id(client): client for client in _http_clients(model)}
    for client in clients.values():
        hooks = client.event_hooks
        is_async = hasattr(client, "aclose")
        hook = _bound_async if is_async else _bound
        # LangChain shares a client between models.
        if hook not in hooks["response"]:
            prepare = _prepare_async if is_async else _prepare
            client.event_hooks = {
                "request": [*hooks["request"], prepare],
                "response": [*hooks["response"], hook],
            }
    return len(clients)


class Budget:
    """Counts the bytes of one answer; raises AnswerTooLarge.

    A unary answer, and an event of a stream, may have PROVIDER_MAX_RESPONSE_BYTES, a stream
    PROVIDER_MAX_STREAM_BYTES. A stream is passed on by complete events: OpenAI's SDK copies all
    that it has of an event at each of its lines and pieces.
    """

    def __init__(self, *, is_stream: bool, encoding: str) -> None:
        self.setting = "PROVIDER_MAX_STREAM_BYTES" if is_stream else "PROVIDER_MAX_RESPONSE_BYTES"
        self._total = 0
        self._most_bytes = int(getattr(settings, self.setting))
        self._most_event_bytes = settings.PROVIDER_MAX_RESPONSE_BYTES
        self._inflater = zlib.decompressobj(_ANY_HEADER) if encoding in ENCODINGS else None
        # Of an event that is not complete yet.
        self._event: bytearray | None = bytearray() if is_stream else None
        self._lines = 0

    def read(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes to pass on to the SDK now."""
        for piece in self._inflate(data):
            self._total += len(piece)
            if self._total > self._most_bytes:
                raise AnswerTooLarge(self.setting)
            if self._event is None or (not self._event and _is_one_event(piece)):
                yield piece
            else:
                yield from self._events(self._event, piece)

    def rest(self) -> bytes:
        """Return the rest once the answer has ended: an event without an end."""
        return bytes(self._event or b"")

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        if self._inflater is None:
            yield data
            return
        try:
            while data:
                yield self._inflater.decompress(data, PIECE_BYTES)
                data = self._inflater.unconsumed_tail
        except zlib.error as error:
            raise ConnectionError("the answer's compression is damaged") from error

    def _events(self, event: bytearray, piece: bytes) -> Iterator[bytes]:
        before = max(0, len(event) - LONGEST_END)
        event += piece
        end = max(
            found + len(mark) if (found := event.rfind(mark, before)) >= 0 else 0
            for mark in EVENT_ENDS
        )
        if end:
            yield bytes(event[:end])
            del event[:end]
            self._lines, piece = 0, bytes(event)
        self._lines += piece.count(b"\n") + piece.count(b"\r")
        if len(event) > self._most_event_bytes or self._lines > MAX_EVENT_LINES:
            raise AnswerTooLarge("PROVIDER_MAX_RESPONSE_BYTES")


def _is_one_event(piece: bytes) -> bool:
    """Return whether a piece is an event of one line, as most are."""
    return piece.endswith(b"\n\n") and piece.find(b"\n") == len(piece) - 2


def _http_clients(model: Any) -> Iterator[Any]:
    for name in _SDK_NAMES:
        sdk = getattr(model, name, None)
        # OpenAI's resources have the client that they belong to, others the HTTP client itself.
        for _ in range(3):
            if sdk is None:
                break
            if isinstance(getattr(sdk, "event_hooks", None), dict):
                yield sdk
                break
            sdk = next((found for key in _HTTP_NAMES if (found := getattr(sdk, key, None))), None)


def _prepare(request: Any) -> None:
    # The encodings that are inflated here; httpx would offer more.
    request.headers["Accept-Encoding"] = "gzip, deflate"
    request.extensions["trace"] = trace


async def _prepare_async(request: Any) -> None:
    _prepare(request)
    request.extensions["trace"] = trace_async


def _bound(response: Any) -> None:
    response.stream = _stream_class(response, "SyncByteStream")(response.stream, _budget(response))


async def _bound_async(response: Any) -> None:
    response.stream = _stream_class(response, "AsyncByteStream")(response.stream, _budget(response))


def _budget(response: Any) -> Budget:
    content_type = response.headers.get("content-type", "")
    encoding = encoding_of(response.headers)
    if encoding:
        # Else httpx would decompress it again.
        del response.headers["content-encoding"]
        response.headers.pop("content-length", None)
    budget = Budget(is_stream=content_type.startswith("text/event-stream"), encoding=encoding)
    expect_body(response, budget.setting)
    return budget


def _stream_class(response: Any, base_name: str) -> Callable[[Any, Budget], Any]:
    """Return the bounded stream of the httpx that a response is of: SDKs use one of two."""
    package = type(response).__module__.partition(".")[0]
    base: Any = getattr(import_module(package), base_name)
    bounded = _BoundedSync if base_name == "SyncByteStream" else _BoundedAsync
    return type(bounded.__name__, (bounded, base), {})


class _BoundedSync:
    def __init__(self, stream: Any, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget

    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            yield from self._budget.read(data)
        yield self._budget.rest()

    def close(self) -> None:
        self._stream.close()


class _BoundedAsync:
    def __init__(self, stream: Any, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            for piece in self._budget.read(data):
                yield piece
        yield self._budget.rest()

    async def aclose(self) -> None:
        await self._stream.aclose()
