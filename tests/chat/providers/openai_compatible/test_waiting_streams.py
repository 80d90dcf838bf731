"""What a stream holds while it waits for its provider's next token: thousands do at once."""

from __future__ import annotations

import gc
import io
import socket
from collections import Counter
from http.client import HTTPMessage, HTTPResponse

from langchain_core.messages import HumanMessage

from chat.providers.openai_compatible import OpenAICompatibleChatModel
from tests.chat.providers.openai_compatible.test_connections import server

# Of each a waiting stream had one or more, of kilobytes.
HEAVY = (io.BufferedReader, HTTPMessage, HTTPResponse, HumanMessage)
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Long: %b\r\n" % (b"x" * 500)


def test_a_stream_that_waits_holds_neither_a_reader_nor_the_head_nor_its_messages() -> None:
    def serve(connection: socket.socket, _: int) -> None:
        connection.recv(65_536)
        chunk = b"%X\r\n%b\r\n" % (len(EVENT), EVENT)
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
        # Until the client hangs up.
        connection.recv(1)

    with server(serve) as url:
        model = OpenAICompatibleChatModel(model="m", base_url=url)
        before = _heavy()
        stream = model._stream([HumanMessage("Hi")])  # noqa: SLF001
        assert next(stream).message.content == "Hello"
        assert _heavy() == before
        stream.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_connection_with_more_than_the_answer_is_not_reused() -> None:
    numbers: list[int] = []
    body = b'{"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}'

    def serve(connection: socket.socket, number: int) -> None:
        numbers.append(number)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        while connection.recv(65_536):
            connection.sendall(head + body + b"HTTP/1.1 200 OK\r\n")

    with server(serve) as url:
        model = OpenAICompatibleChatModel(model="m", base_url=url)
        assert [model.invoke("x").content for _ in range(2)] == ["Hello", "Hello"]
    assert numbers == [0, 1]


def _heavy() -> Counter[type]:
    gc.collect()
    return Counter(type(found) for found in gc.get_objects() if isinstance(found, HEAVY))
