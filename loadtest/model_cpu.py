"""Measure the CPU of one model call: `python -m loadtest.model_cpu`.

Our class for OpenAI-compatible servers and LangChain's ChatOpenAI in one process, against a server
in another that answers at once: a unary answer, and a stream of 100 chunks.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

CHUNKS = 100
CALLS = 100
ROUNDS = 4
MESSAGE = "Write a sentence."


def main() -> None:
    """Print microseconds of CPU a call, the best of some rounds."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django  # noqa: PLC0415

    django.setup()
    ready: Any = multiprocessing.get_context("spawn").Queue()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(ready,), daemon=True)
    server.start()
    base_url = f"http://127.0.0.1:{ready.get(timeout=30)}/v1"
    try:
        for name, call in calls(base_url).items():
            print(f"{name:32} {best_cpu_us(call):8.0f} us")
    finally:
        server.terminate()


def calls(base_url: str) -> dict[str, Callable[[], Any]]:
    """Return what is measured, by its name."""
    from langchain_core.messages import HumanMessage  # noqa: PLC0415
    from langchain_openai import ChatOpenAI  # noqa: PLC0415
    from pydantic import SecretStr  # noqa: PLC0415

    from chat.providers.openai_compatible import OpenAICompatibleChatModel  # noqa: PLC0415

    messages: Any = [HumanMessage(MESSAGE)]
    ours = OpenAICompatibleChatModel(model="m", base_url=base_url)
    theirs = ChatOpenAI(
        model="m",
        base_url=base_url,
        api_key=SecretStr("none"),
        use_responses_api=False,
        stream_usage=True,
        max_retries=0,
    )
    return {
        "ours, _generate": lambda: ours._generate(messages),
        "ChatOpenAI, _generate": lambda: theirs._generate(messages),
        "ours, _stream of 100": lambda: count(ours._stream(messages)),
        "ChatOpenAI, _stream of 100": lambda: count(theirs._stream(messages)),
    }


def count(chunks: Any) -> None:
    """Read a stream; every word of it must come."""
    words = sum(1 for chunk in chunks if chunk.text)
    assert words == CHUNKS, words


def best_cpu_us(call: Callable[[], Any]) -> float:
    """Return the CPU of this process a call, in microseconds, of the best round."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(CALLS):
            call()
        rounds.append((time.process_time() - started) / CALLS * 1e6)
    return min(rounds)


# --- The server ---------------------------------------------------------------------------------
def serve(ready: Any) -> None:
    """Answer every request on every connection with prepared bytes."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    ready.put(listener.getsockname()[1])
    unary, stream = _unary(), _stream()
    while True:
        connection, _ = listener.accept()
        threading.Thread(
            target=_serve_connection, args=(connection, unary, stream), daemon=True
        ).start()


def _serve_connection(connection: socket.socket, unary: bytes, stream: bytes) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            data = connection.recv(65_536)
            if not data:
                return
            buffer += data
        head, _, rest = buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(rest) < length:
            rest += connection.recv(65_536)
        body, buffer = rest[:length], rest[length:]
        connection.sendall(stream if json.loads(body).get("stream") else unary)


def _unary() -> bytes:
    message = {"role": "assistant", "content": "word " * CHUNKS}
    usage = {"prompt_tokens": 4, "completion_tokens": CHUNKS, "total_tokens": CHUNKS + 4}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({**_common("chat.completion"), "choices": [choice], "usage": usage}).encode()
    lines = ("HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _stream() -> bytes:
    choices = [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None},
        *({"index": 0, "delta": {"content": "word "}, "finish_reason": None},) * CHUNKS,
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]
    usage = {"prompt_tokens": 4, "completion_tokens": CHUNKS, "total_tokens": CHUNKS + 4}
    common = _common("chat.completion.chunk")
    events = [json.dumps({**common, "choices": [choice]}) for choice in choices]
    events += [json.dumps({**common, "choices": [], "usage": usage}), "[DONE]"]
    pieces = [f"data: {event}\n\n".encode() for event in events]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"\r\n" + body + b"0\r\n\r\n"


def _common(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "m"}


if __name__ == "__main__":
    main()
