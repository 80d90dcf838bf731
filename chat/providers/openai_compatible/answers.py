"""A unary answer as LangChain's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, ToolCall
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks

from chat.errors import UnreadableAnswer
from chat.providers.openai_compatible import json_text, tool_calls
from chat.providers.openai_compatible.chunks import FAILED, PASSED_ON
from chat.providers.openai_compatible.deltas import (
    MODEL_PROVIDER,
    additional_kwargs,
    text_and_reasoning,
)
from chat.providers.openai_compatible.errors import error_in_answer, fault_in
from chat.providers.openai_compatible.usage import usage_metadata
from config.text import well_formed


def to_chat_result(data: bytes) -> ChatResult:
    """Return the first choice of an answer; raises UnreadableAnswer, ProviderResponseError."""
    body = json_text.loads(data)
    if (fault := fault_in(body)) is not None:
        raise error_in_answer(fault, {})
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise UnreadableAnswer
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise UnreadableAnswer
    reason = choices[0].get("finish_reason")
    if reason == FAILED:
        raise error_in_answer({}, {})
    info: dict[str, Any] = {}
    if isinstance(reason, str) and reason:
        info["finish_reason"] = reason
    if logprobs := choices[0].get("logprobs"):
        info["logprobs"] = logprobs
    metadata: dict[str, Any] = {"model_provider": MODEL_PROVIDER, **info}
    metadata |= {name: body[name] for name in (*PASSED_ON, "id") if body.get(name)}
    if isinstance(name := body.get("model"), str):
        metadata["model_name"] = name
    answer = _to_message(message, metadata, body.get("usage"), data)
    return ChatResult(
        generations=[ChatGeneration(message=answer, generation_info=info or None)],
        llm_output={"model_name": metadata.get("model_name"), "token_usage": body.get("usage")},
    )


def joined(chunks: Iterable[ChatGenerationChunk]) -> ChatResult:
    """Return the chunks of a stream as a unary answer, for servers that stream always.

    LangChain's own function would complete calls whose arguments are cut.
    """
    merged = merge_chat_generation_chunks(list(chunks))
    if merged is None or not isinstance(merged.message, AIMessageChunk):
        raise UnreadableAnswer
    chunk, info = merged.message, merged.generation_info or {}
    message: dict[str, Any] = {"content": chunk.content, **chunk.additional_kwargs}
    message["tool_calls"] = [
        {"id": call["id"], "function": {"name": call["name"], "arguments": call["args"]}}
        for call in chunk.tool_call_chunks
    ]
    answer = _to_message(message, {**chunk.response_metadata, **info}, None, b"")
    answer.usage_metadata = chunk.usage_metadata
    return ChatResult(generations=[ChatGeneration(message=answer, generation_info=info or None)])


def _to_message(
    message: dict[str, Any], metadata: dict[str, Any], usage: Any, data: bytes
) -> AIMessage:
    text, reasoning = text_and_reasoning(message.get("content"))
    if not text.isascii():
        text = well_formed(text)
    extra = additional_kwargs(message, reasoning)
    valid: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    raw_calls = _calls_of(message, data)
    for raw in raw_calls:
        _add_call(raw, valid, invalid)
    if raw_calls:
        # As they came, to be sent back to the provider to the letter.
        extra["tool_calls"] = raw_calls
    return AIMessage(
        content=text,
        additional_kwargs=extra,
        tool_calls=valid,
        invalid_tool_calls=invalid,
        usage_metadata=usage_metadata(usage),
        response_metadata=metadata,
    )


def _calls_of(message: dict[str, Any], data: bytes) -> list[dict[str, Any]]:
    """Return the calls in OpenAI's shape, all with an id and with arguments as text."""
    raw_calls = message.get("tool_calls")
    if not isinstance(raw_calls, list):
        return []
    if tool_calls.has_objects(raw_calls):
        raw_calls = json_text.exact_loads(data)["choices"][0]["message"]["tool_calls"]
    found = []
    for call in raw_calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            continue
        arguments = tool_calls.arguments_text(function.get("arguments"))
        if tool_calls.parsed(arguments) is None:
            arguments = tool_calls.without_repetition(arguments)
        call_id, name = call.get("id"), function.get("name")
        found.append(
            {
                "id": call_id if isinstance(call_id, str) and call_id else tool_calls.new_id(),
                "type": "function",
                "function": {
                    "name": name if isinstance(name, str) else "",
                    "arguments": arguments,
                },
            }
        )
    return found


def _add_call(raw: dict[str, Any], valid: list[ToolCall], invalid: list[InvalidToolCall]) -> None:
    name, text = raw["function"]["name"], raw["function"]["arguments"]
    arguments = tool_calls.parsed(text)
    if arguments is not None:
        valid.append(ToolCall(name=name, args=arguments, id=raw["id"], type="tool_call"))
        return
    invalid.append(
        InvalidToolCall(
            name=name, args=text, id=raw["id"], error="not JSON", type="invalid_tool_call"
        )
    )
