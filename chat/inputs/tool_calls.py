"""Tool calls between OpenAI's shape, whose arguments are text, and LangChain's, which are parsed.

A message holds both: LangChain's fields for chains, and OpenAI's under `tool_calls` in
`additional_kwargs`, so that the text of a call is never rewritten, and half of one never mended.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.tool import ToolCallChunk

from config import exact_json

RAW = "tool_calls"


def new_call_id() -> str:
    """Return an id for a call that came without one."""
    return f"call_{secrets.token_hex(12)}"


def openai_call(call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    """Return a call in OpenAI's shape."""
    function = {"name": name or "", "arguments": arguments or ""}
    return {"id": call_id or new_call_id(), "type": "function", "function": function}


def parsed_arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments of a call, integers to the digit; None where they are no JSON object."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    # Of integers with thousands of digits, too.
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def langchain_calls(calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of LangChain's message for calls in OpenAI's shape."""
    valid, invalid = [], []
    for call in calls:
        function = call["function"]
        head = {"id": call["id"], "name": function["name"]}
        arguments = parsed_arguments(function["arguments"])
        if arguments is not None:
            valid.append({"type": "tool_call", **head, "args": arguments})
            continue
        text = function["arguments"]
        invalid.append({"type": "invalid_tool_call", **head, "args": text, "error": None})
    return {
        "tool_calls": valid,
        "invalid_tool_calls": invalid,
        "additional_kwargs": {RAW: list(calls)},
    }


def openai_calls(message: AIMessage) -> list[dict[str, Any]]:
    """Return the calls of a complete answer in OpenAI's shape, in their order.

    With the text that the model wrote, unless the chain has changed a call.
    """
    raw_calls = _raw_calls(message)
    if isinstance(message, AIMessageChunk) and not raw_calls:
        return [openai_call(c["id"], c["name"], c["args"]) for c in message.tool_call_chunks]
    texts = {call["id"]: call["function"]["arguments"] for call in raw_calls}
    calls = []
    for call in message.tool_calls:
        text = texts.get(call["id"] or "")
        if text is None or parsed_arguments(text) != call["args"]:
            text = exact_json.dumps(call["args"], default=str).decode()
        calls.append(openai_call(call["id"], call["name"], text))
    calls += [openai_call(c["id"], c["name"], c["args"]) for c in message.invalid_tool_calls]
    positions = {call["id"]: position for position, call in enumerate(raw_calls)}
    return sorted(calls, key=lambda call: positions.get(call["id"], len(positions)))


def complete_message(chunk: AIMessageChunk) -> AIMessage:
    """Return the message of a stream's joined chunks; half a call in it is an invalid one."""
    calls = openai_calls(chunk)
    message = message_chunk_to_message(chunk)
    if not isinstance(message, AIMessage) or not calls:
        return message  # type: ignore[return-value]
    fields = langchain_calls(calls)
    fields["additional_kwargs"] = {**message.additional_kwargs, **fields["additional_kwargs"]}
    return message.model_copy(update=fields)


class ToolCallPieces:
    """Gives the pieces of a stream's calls indexes of their own, and ids where they have none.

    Providers send the same index for two calls, or none. A piece with another id than the call of
    its index begins a new one; only the first piece of a call has an id and a name.
    """

    def __init__(self) -> None:
        # The position and the id of the last call by the provider's index.
        self._open: dict[Any, tuple[int, str]] = {}
        self._count = 0

    def read(self, chunk: AIMessageChunk) -> list[ToolCallChunk]:
        """Return the pieces of the next chunk."""
        return [self._read_piece(piece) for piece in chunk.tool_call_chunks]

    def _read_piece(self, piece: ToolCallChunk) -> ToolCallChunk:
        key, call_id = piece["index"], piece["id"] or ""
        position, open_id = self._open.get(key, (-1, ""))
        if position >= 0 and call_id in ("", open_id):
            return ToolCallChunk(
                name=None, args=piece["args"], id=None, index=position, type="tool_call_chunk"
            )
        position, call_id = self._count, call_id or new_call_id()
        self._count += 1
        self._open[key] = (position, call_id)
        return ToolCallChunk(
            name=piece["name"],
            args=piece["args"],
            id=call_id,
            index=position,
            type="tool_call_chunk",
        )


def _raw_calls(message: AIMessage) -> list[dict[str, Any]]:
    """Return the calls in `additional_kwargs`, which a client of LangServe may have written."""
    raw_calls = message.additional_kwargs.get(RAW)
    if not isinstance(raw_calls, list):
        return []
    return [call for call in raw_calls if _is_openai_call(call)]


def _is_openai_call(call: Any) -> bool:
    if not (isinstance(call, dict) and isinstance(call.get("id"), str)):
        return False
    function = call.get("function")
    return isinstance(function, dict) and isinstance(function.get("arguments"), str)
