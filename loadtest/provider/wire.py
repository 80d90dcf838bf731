"""The bytes of the mock provider's requests and answers."""

from __future__ import annotations

import json
import re
from typing import Any

from loadtest.settings import ANSWER

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
END_OF_HEAD = b"\r\n\r\n"
STREAM = re.compile(rb'"stream": ?true')
USAGE = re.compile(rb'"include_usage": ?true')
BASE = {"id": "chatcmpl-bench", "created": 1767225600, "model": "bench"}
COUNTS = {"prompt_tokens": 12, "completion_tokens": 100, "total_tokens": 112}
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
# What a token says when all come at once; the last one shows that none is missing.
TEXT = "token{number} "


def request_bytes(received: bytearray) -> int:
    """Return the length of the request that begins here, 0 while its head is incomplete."""
    end = received.find(END_OF_HEAD)
    if end < 0:
        return 0
    length = LENGTH.search(received, 0, end)
    return end + len(END_OF_HEAD) + (int(length[1]) if length else 0)


def is_stream(request: bytes) -> bool:
    """Return whether a streamed answer is requested."""
    return STREAM.search(request) is not None


def wants_usage(request: bytes) -> bool:
    """Return whether a stream is to end with its usage."""
    return USAGE.search(request) is not None


def whole(seconds: float | None = None) -> bytes:
    """Return a complete answer; one that was waited for says how long."""
    text = ANSWER if seconds is None else f"{ANSWER} {seconds:.6f}"
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = _json({**BASE, "object": "chat.completion", "choices": [choice], "usage": COUNTS})
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def token_chunk(text: str, *, is_first: bool) -> bytes:
    """Return a token's event in a chunk of its own, the first one with the head of the answer."""
    delta = {"role": "assistant", "content": text} if is_first else {"content": text}
    event = _chunk(_event(choices=[{"index": 0, "delta": delta, "finish_reason": None}]))
    return STREAM_HEAD + event if is_first else event


def complete_stream(tokens: int, *, with_usage: bool) -> bytes:
    """Return a stream of so many tokens."""
    parts = [
        token_chunk(TEXT.format(number=number), is_first=number == 1)
        for number in range(1, tokens + 1)
    ]
    return b"".join(parts) + (STREAM_END_WITH_USAGE if with_usage else STREAM_END)


def _event(**members: Any) -> bytes:
    return b"data: " + _json({**BASE, "object": "chat.completion.chunk", **members}) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


_FINISH = _chunk(_event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
_DONE = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
WHOLE = whole()
STREAM_END = _FINISH + _DONE
STREAM_END_WITH_USAGE = _FINISH + _chunk(_event(choices=[], usage=COUNTS)) + _DONE
