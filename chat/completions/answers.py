"""A chain's output as OpenAI's completion, unary or in chunks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage

from chat.inputs.openai_answers import (
    REFUSAL,
    answer_extras,
    answer_text,
    answer_tool_calls,
    delta_tool_calls,
    finish_reason,
)
from chat.inputs.tool_calls import ToolCallPieces
from chat.running import sse
from chat.running.execution import Call, Chunks, Heartbeat
from chat.running.run import Usage
from config import exact_json
from config.api.errors import to_api_error
from config.text import TextPieces

DONE = sse.event(b"[DONE]")


def completion_body(call: Call, output: Any) -> dict[str, Any]:
    """Return the body of an answer that is not streamed."""
    tool_calls = answer_tool_calls(output)
    extras = answer_extras(output)
    has_more = tool_calls or REFUSAL in extras
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer_text(output) or (None if has_more else ""),
        "refusal": None,
        **extras,
    }
    if tool_calls:
        message["tool_calls"] = tool_calls
    return {
        **_head(call, "chat.completion"),
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": _reason(finish_reason(output), has_tools=bool(tool_calls)),
            }
        ],
        "usage": usage_body(call.run.usage),
    }


def completion_events(
    call: Call, items: sse.PrimedStream[Chunks | Heartbeat], *, include_usage: bool
) -> sse.Events:
    """Yield the server-sent events of a streamed answer, and return the last: `[DONE]`.

    An error after the start becomes an `error` event instead, which the SDKs raise.
    """
    writer = _ChunkWriter(call, include_usage=include_usage)
    try:
        for item in items:
            if isinstance(item, Heartbeat):
                yield sse.heartbeat(item)
            else:
                yield from sse.joined(
                    event for value in item.values for event in writer.write(value)
                )
            # The next one may take long.
            del item
        yield from writer.end()
        return DONE
    # The status has gone out, so that every error must go inside the stream.
    except Exception as error:
        return sse.event(exact_json.dumps(to_api_error(error).body))
    finally:
        items.close()


class _ChunkWriter:
    """Turns a chain's chunks into `chat.completion.chunk` events."""

    def __init__(self, call: Call, *, include_usage: bool) -> None:
        self._call = call
        self._include_usage = include_usage
        self._head = _head(call, "chat.completion.chunk")
        if include_usage:
            self._head["usage"] = None
        # The same in every event: all before the delta.
        self._opening = exact_json.dumps(self._head)[:-1] + b',"choices":[{"index":0,"delta":'
        self._is_started = False
        self._has_tools = False
        self._reason: str | None = None
        # A parser's chunks are no text; each repeats the one before more fully.
        self._last_object: Any = None
        self._texts: dict[str, TextPieces] = {}
        self._calls = ToolCallPieces()

    def write(self, output: Any) -> Iterator[bytes]:
        """Yield the events of one chunk."""
        yield from self._start()
        self._reason = finish_reason(output) or self._reason
        if not isinstance(output, str | BaseMessage):
            self._last_object = output
            return
        for name, value in answer_extras(output).items():
            if delta := self._piece(name, value) if isinstance(value, str) else value:
                yield self._event({name: delta})
        if text := self._piece("content", answer_text(output)):
            yield self._event({"content": text})
        if isinstance(output, AIMessageChunk) and output.tool_call_chunks:
            self._has_tools = True
            yield self._event({"tool_calls": delta_tool_calls(self._calls.read(output))})

    def end(self) -> Iterator[bytes]:
        """Yield the last events of a complete answer."""
        yield from self._start()
        for name, pieces in self._texts.items():
            if rest := pieces.end():
                yield self._event({name: rest})
        if self._last_object is not None:
            yield self._event({"content": answer_text(self._last_object)})
        yield self._event({}, _reason(self._reason, has_tools=self._has_tools))
        if self._include_usage:
            usage = usage_body(self._call.run.usage)
            yield sse.event(exact_json.dumps({**self._head, "choices": [], "usage": usage}))

    def _piece(self, name: str, piece: str) -> str:
        """Return a piece of a text, without half a character at its end."""
        if piece.isascii() and name not in self._texts:
            return piece
        return self._texts.setdefault(name, TextPieces()).add(piece)

    def _start(self) -> Iterator[bytes]:
        if not self._is_started:
            self._is_started = True
            yield self._event({"role": "assistant", "content": ""})

    def _event(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        ending = exact_json.dumps(reason) if reason else b"null"
        return sse.event(
            b'%b%b,"logprobs":null,"finish_reason":%b}]}'
            % (self._opening, exact_json.dumps(delta), ending)
        )


def usage_body(usage: Usage) -> dict[str, Any] | None:
    """Return the token counts, with their details, or None when no provider reported them."""
    if not usage.is_reported:
        return None
    body: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        body["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return body


def _head(call: Call, kind: str) -> dict[str, Any]:
    config = call.chain.config
    return {
        "id": f"chatcmpl-{call.run.id.hex}",
        "object": kind,
        "created": int(time.time()),
        "model": config.slug,
        "system_fingerprint": f"{config.slug}-v{config.version}",
    }


def _reason(reason: str | None, *, has_tools: bool) -> str:
    # Some servers send "stop" after a tool call; the SDKs' tool loops look for this word.
    if has_tools and reason in (None, "stop"):
        return "tool_calls"
    return reason or "stop"
