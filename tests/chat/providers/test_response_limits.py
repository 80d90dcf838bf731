"""Bounds on a provider's answer: bytes, events without an end, small bodies that inflate."""

from __future__ import annotations

import asyncio
import gzip
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import openai
import pytest
from langchain_core.language_models.chat_models import BaseChatModel

from chat.chains.config import ChainConfig
from chat.errors import OversizedAnswer, ProviderError
from chat.providers.chat_model import ResilientChatModel
from chat.providers.errors import to_provider_error
from chat.providers.factory import make_model
from chat.providers.response_limits import Budget, bound_answers
from chat.providers.wire import AnswerTooLarge

Write = Callable[[bytes], Any]
LIMIT = 100_000
MESSAGE = {"role": "assistant", "content": "Hello"}
WHOLE = json.dumps({"id": "x", "choices": [{"index": 0, "message": MESSAGE}]}).encode()
CHUNK = (
    b"data: "
    + json.dumps({"id": "x", "choices": [{"index": 0, "delta": MESSAGE}]}).encode()
    + b"\n\n"
)
DONE = b"data: [DONE]\n\n"


@pytest.fixture(autouse=True)
def _small_limits(settings: Any) -> None:
    settings.PROVIDER_MAX_RESPONSE_BYTES = LIMIT
    settings.PROVIDER_MAX_STREAM_BYTES = 4 * LIMIT


@contextmanager
def provider(answer: Callable[[Write], None]) -> Iterator[str]:
    """Run a server that answers each request by a function; yields its base URL."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.rfile.read(length)
            with suppress(OSError):
                answer(self.wfile.write)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def config(base_url: str) -> ChainConfig:
    return ChainConfig(
        slug="x",
        version=1,
        runnable="assistant",
        model_name="openai:m",
        fallback_models=(),
        base_url=base_url,
        system_prompt="",
        temperature=None,
        max_tokens=None,
        timeout_seconds=20,
        parameters={},
    )


def head(*lines: str, status: str = "200 OK") -> bytes:
    text = "".join(f"{line}\r\n" for line in (*lines, "Connection: close"))
    return f"HTTP/1.1 {status}\r\n{text}\r\n".encode()


JSON_TYPE = "Content-Type: application/json"
EVENTS = "Content-Type: text/event-stream; charset=utf-8"


def stream_without_end(piece: bytes) -> Callable[[Write], None]:
    def answer(write: Write) -> None:
        write(head(EVENTS) + CHUNK)
        while True:
            write(piece)

    return answer


# --- What is good goes through ------------------------------------------------------------------
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_unary_answer_is_read(encoding: str) -> None:
    body = gzip.compress(WHOLE) if encoding else WHOLE
    lines = [JSON_TYPE, f"Content-Length: {len(body)}"]
    lines += [f"Content-Encoding: {encoding}"] if encoding else []
    with provider(lambda write: write(head(*lines) + body)) as url:
        model = ResilientChatModel.from_config(config(url))
        assert model.invoke("Hi").content == "Hello"


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_stream_is_read_in_pieces_of_any_size(encoding: str) -> None:
    body = (CHUNK + b": a comment\r\n\r\n") * 3 + CHUNK + DONE
    body = gzip.compress(body) if encoding else body

    def answer(write: Write) -> None:
        write(head(EVENTS, *([f"Content-Encoding: {encoding}"] if encoding else [])))
        for at in range(0, len(body), 7):
            write(body[at : at + 7])

    with provider(answer) as url:
        model = ResilientChatModel.from_config(config(url))
        assert "".join(str(chunk.content) for chunk in model.stream("Hi")) == "Hello" * 4


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_events_come_as_they_were_sent(size: int) -> None:
    sent = b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\ndata: e\n\nno end"
    budget = Budget(is_stream=True, encoding="")
    seen = [
        event for at in range(0, len(sent), size) for event in budget.read(sent[at : at + size])
    ]
    assert b"".join(seen) + budget.rest() == sent
    assert budget.rest() == b"no end"


# --- What is too large is one clear error -------------------------------------------------------
def large(write: Write) -> None:
    write(head(JSON_TYPE))
    while True:
        write(b" " * 65_536)


def bomb(write: Write) -> None:
    body = gzip.compress(b" " * 50_000_000)
    write(head(JSON_TYPE, "Content-Encoding: gzip", f"Content-Length: {len(body)}") + body)


def large_error(write: Write) -> None:
    write(head(JSON_TYPE, status="500 Oops"))
    while True:
        write(b" " * 65_536)


@pytest.mark.parametrize("answer", [large, bomb, large_error])
def test_a_unary_answer_is_bounded(answer: Callable[[Write], None]) -> None:
    with provider(answer) as url:
        model = ResilientChatModel.from_config(config(url))
        with pytest.raises(OversizedAnswer, match="PROVIDER_MAX_RESPONSE_BYTES"):
            model.invoke("Hi")


@pytest.mark.parametrize(
    ("piece", "setting"),
    [
        (b"data: " + b"x" * 65_536, "PROVIDER_MAX_RESPONSE_BYTES"),
        (b"data: x\n" * 50, "PROVIDER_MAX_RESPONSE_BYTES"),
        (b": still here\n\n" * 1000, "PROVIDER_MAX_STREAM_BYTES"),
        (CHUNK * 100, "PROVIDER_MAX_STREAM_BYTES"),
    ],
    ids=["a line", "lines of one event", "comments", "chunks"],
)
def test_a_stream_is_bounded(piece: bytes, setting: str) -> None:
    with provider(stream_without_end(piece)) as url:
        model = ResilientChatModel.from_config(config(url))
        with pytest.raises(OversizedAnswer, match=setting):
            list(model.stream("Hi"))


def endless_hints(write: Write) -> None:
    while True:
        write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100)


def endless_head(write: Write) -> None:
    write(b"HTTP/1.1 200 OK\r\n")
    while True:
        write(b"X-More: 1\r\n" * 100)


def endless_extensions(write: Write) -> None:
    write(head(JSON_TYPE, "Transfer-Encoding: chunked"))
    while True:
        write(b"1;" + b"x" * 1000 + b"\r\n \r\n")


def endless_trailers(write: Write) -> None:
    write(head(JSON_TYPE, "Transfer-Encoding: chunked") + b"0\r\n")
    while True:
        write(b"X-More: 1\r\n" * 100)


@pytest.mark.parametrize("is_async", [False, True], ids=["called", "awaited"])
@pytest.mark.parametrize(
    "answer", [endless_hints, endless_head, endless_extensions, endless_trailers]
)
def test_what_comes_with_an_answer_is_bounded_by_bytes(
    answer: Callable[[Write], None], is_async: bool, settings: Any
) -> None:
    settings.PROVIDER_MAX_RETRIES = 0
    sent = 0

    def counted(write: Write) -> None:
        def count(data: bytes) -> None:
            nonlocal sent
            sent += len(data)
            write(data)

        answer(count)

    with provider(counted) as url:
        model = make_model("langchain-openai:m", config(url))
        # The client refuses heads of 100 kB by itself.
        with pytest.raises((openai.APIConnectionError, AnswerTooLarge)) as caught:
            asyncio.run(model.ainvoke("Hi")) if is_async else model.invoke("Hi")
    assert not isinstance(caught.value, openai.APITimeoutError)
    # What the kernel holds on both sides comes on top.
    assert sent < 8 * LIMIT + 8_000_000


def test_a_connections_count_is_reset_for_each_request() -> None:
    body = b"HTTP/1.1 200 OK\r\n" + f"{JSON_TYPE}\r\n".encode()
    text = json.dumps({"id": "x", "pad": "x" * (LIMIT // 2), **json.loads(WHOLE)}).encode()
    served = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                length = 0
                while (line := line.strip()) != b"":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                    line = self.rfile.readline()
                self.rfile.read(length)
                served.append(self.client_address)
                self.wfile.write(body + b"Content-Length: %d\r\n\r\n" % len(text) + text)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        model = ResilientChatModel.from_config(config(url))
        for _ in range(20):
            assert model.invoke("Hi").content == "Hello"
        server.shutdown()
    assert len(served) == 20
    assert len(set(served)) == 1, "the connection is used again"


def test_an_unknown_compression_is_an_error(settings: Any) -> None:
    settings.PROVIDER_MAX_RETRIES = 0

    def answer(write: Write) -> None:
        write(head(JSON_TYPE, "Content-Encoding: br") + b"xx")

    with provider(answer) as url:
        model = ResilientChatModel.from_config(config(url))
        with pytest.raises(ProviderError) as caught:
            model.invoke("Hi")
    assert caught.value.code == "provider_unreachable"


def test_awaited_calls_are_bounded_as_well() -> None:
    async def call(model: BaseChatModel) -> None:
        await model.ainvoke("Hi")

    with provider(large) as url:
        model = make_model("langchain-openai:m", config(url))
        # Whether the SDK makes an error of its own of it depends on how the answer came.
        with pytest.raises((openai.APIConnectionError, AnswerTooLarge)) as caught:
            asyncio.run(call(model))
    assert isinstance(to_provider_error(caught.value), OversizedAnswer)


def test_a_client_that_models_share_is_bounded_once() -> None:
    first, second = (
        make_model("langchain-openai:m", config("http://127.0.0.1:1/v1")) for _ in range(2)
    )
    assert bound_answers(first) == bound_answers(second) == 2
    # OpenAI's client has no public name for its HTTP client.
    http: Any = first.root_client._client  # type: ignore[attr-defined]  # noqa: SLF001
    assert len(http.event_hooks["response"]) == 1
