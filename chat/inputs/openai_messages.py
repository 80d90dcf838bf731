"""Convert between OpenAI's messages and LangChain's."""

from __future__ import annotations

from typing import Any

import orjson
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from chat.inputs import completion_request
from chat.inputs.completion_request import ChatCompletionRequest

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
PASSED_ON = (
    "temperature",
    "top_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "parallel_tool_calls",
    "response_format",
    "user",
)


def model_options(request: ChatCompletionRequest) -> dict[str, Any]:
    """Return the request's model options, as arguments of a LangChain chat model."""
    options: dict[str, Any] = {
        name: value for name in PASSED_ON if (value := getattr(request, name)) is not None
    }
    if max_tokens := request.max_completion_tokens or request.max_tokens:
        options["max_tokens"] = max_tokens
    if request.stop:
        options["stop"] = [request.stop] if isinstance(request.stop, str) else request.stop
    if request.tools:
        options["tools"] = [tool.model_dump(exclude_none=True) for tool in request.tools]
    if request.tool_choice:
        choice = request.tool_choice
        options["tool_choice"] = choice if isinstance(choice, str) else choice.model_dump()
    return options


def to_langchain(message: completion_request.Message) -> BaseMessage:
    """Return one message of a request as LangChain's."""
    text = text_of(message.content)
    if isinstance(message, completion_request.SystemMessage):
        return SystemMessage(text, name=message.name)
    if isinstance(message, completion_request.UserMessage):
        return HumanMessage(text, name=message.name)
    if isinstance(message, completion_request.ToolMessage):
        return ToolMessage(text, tool_call_id=message.tool_call_id)
    calls = [_to_langchain_call(call) for call in message.tool_calls or []]
    return AIMessage(
        text,
        name=message.name,
        tool_calls=[call for call in calls if call["type"] == "tool_call"],
        invalid_tool_calls=[call for call in calls if call["type"] == "invalid_tool_call"],
    )


def text_of(content: str | list[completion_request.TextPart] | None) -> str:
    """Return a content's text, its parts joined."""
    if isinstance(content, list):
        return "".join(part.text for part in content)
    return content or ""


def answer_text(output: Any) -> str:
    """Return the text of a chain's output; other types than text and message become JSON."""
    if isinstance(output, str):
        return output
    if isinstance(output, BaseMessage):
        return str(output.text)
    return orjson.dumps(output, default=_jsonable).decode()


def answer_tool_calls(output: Any) -> list[dict[str, Any]]:
    """Return the tool calls of a complete answer in OpenAI's shape."""
    if not isinstance(output, AIMessage):
        return []
    return [
        {
            "id": call["id"] or f"call_{index}",
            "type": "function",
            "function": {"name": call["name"], "arguments": orjson.dumps(call["args"]).decode()},
        }
        for index, call in enumerate(output.tool_calls)
    ]


def delta_tool_calls(chunk: AIMessageChunk) -> list[dict[str, Any]]:
    """Return a chunk's pieces of tool calls; the SDKs join them by `index`."""
    pieces = []
    for position, piece in enumerate(chunk.tool_call_chunks):
        index = piece["index"] if isinstance(piece["index"], int) else position
        function = {"arguments": piece["args"] or ""}
        if piece["name"]:
            function["name"] = piece["name"]
        delta: dict[str, Any] = {"index": index, "function": function}
        if piece["id"]:
            delta |= {"id": piece["id"], "type": "function"}
        pieces.append(delta)
    return pieces


def finish_reason(output: Any) -> str | None:
    """Return why a model stopped, in OpenAI's words; None if the output has no reason."""
    if not isinstance(output, AIMessage):
        return None
    metadata = output.response_metadata
    reason = metadata.get("finish_reason") or metadata.get("stop_reason")
    if isinstance(reason, str) and reason:
        return FINISH_REASONS.get(reason, "stop")
    return None


def _to_langchain_call(call: completion_request.ToolCall) -> Any:
    try:
        arguments = orjson.loads(call.function.arguments or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if isinstance(arguments, dict):
        return {
            "type": "tool_call",
            "id": call.id,
            "name": call.function.name,
            "args": arguments,
        }
    # The model wrote no valid JSON; it is sent back to the model as it was.
    return {
        "type": "invalid_tool_call",
        "id": call.id,
        "name": call.function.name,
        "args": call.function.arguments,
        "error": None,
    }


def _jsonable(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump()
    return str(value)
