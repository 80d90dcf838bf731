"""A chain's output in the terms of OpenAI's answers."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.tool import ToolCallChunk

from chat.inputs.tool_calls import openai_calls
from config import exact_json

# Finish reasons of providers, and OpenAI's word for each.
FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "SAFETY": "content_filter",
}
# Members of `additional_kwargs` that are texts, and members of OpenAI's messages.
REFUSAL, REASONING, ANNOTATIONS = "refusal", "reasoning_content", "annotations"


def answer_text(output: Any) -> str:
    """Return the text of a chain's output; other types than text and message become JSON."""
    if isinstance(output, str):
        return output
    if isinstance(output, BaseMessage):
        content = output.content
        return content if isinstance(content, str) else str(output.text)
    return exact_json.dumps(output, default=_jsonable).decode()


def answer_extras(output: Any) -> dict[str, Any]:
    """Return what a message, or a chunk of one, has besides text and tool calls.

    That is the words of a refusal, the reasoning, and the annotations of the text.
    """
    if not isinstance(output, AIMessage):
        return {}
    given = output.additional_kwargs
    extras: dict[str, Any] = {}
    # Most chunks are text alone.
    if not given and isinstance(output.content, str):
        return extras
    if refusal := _text(given.get(REFUSAL)) or _refusal_blocks(output.content):
        extras[REFUSAL] = refusal
    if reasoning := _text(given.get(REASONING)):
        extras[REASONING] = reasoning
    annotations = given.get(ANNOTATIONS)
    if isinstance(annotations, list) and annotations:
        extras[ANNOTATIONS] = annotations
    return extras


def answer_words(output: Any) -> str:
    """Return the text of an output, or else the words with which the model refused."""
    return answer_text(output) or str(answer_extras(output).get(REFUSAL, ""))


def answer_tool_calls(output: Any) -> list[dict[str, Any]]:
    """Return the tool calls of a complete answer in OpenAI's shape."""
    return openai_calls(output) if isinstance(output, AIMessage) else []


def delta_tool_calls(pieces: list[ToolCallChunk]) -> list[dict[str, Any]]:
    """Return pieces of tool calls in OpenAI's shape; the SDKs join them by `index`."""
    deltas = []
    for piece in pieces:
        function = {"arguments": piece["args"] or ""}
        delta: dict[str, Any] = {"index": piece["index"], "function": function}
        if piece["id"]:
            delta |= {"id": piece["id"], "type": "function"}
            function["name"] = piece["name"] or ""
        deltas.append(delta)
    return deltas


def finish_reason(output: Any) -> str | None:
    """Return why a model stopped, in OpenAI's words; None if the output has no reason."""
    if not isinstance(output, AIMessage):
        return None
    metadata = output.response_metadata
    reason = metadata.get("finish_reason") or metadata.get("stop_reason")
    if isinstance(reason, str) and reason:
        return FINISH_REASONS.get(reason, "stop")
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _refusal_blocks(content: Any) -> str:
    if not isinstance(content, list):
        return ""
    blocks = [part for part in content if isinstance(part, dict) and part.get("type") == REFUSAL]
    return "".join(_text(part.get(REFUSAL)) for part in blocks)


def _jsonable(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump()
    return str(value)
