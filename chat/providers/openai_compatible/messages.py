"""LangChain's messages as chat completions have them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
    is_data_content_block,
)
from langchain_core.messages.block_translators.openai import convert_to_openai_data_block

from chat.providers.openai_compatible import tool_calls

# Parts of answers that a provider does not take back: tool calls have a member of their own.
LEFT_OUT = frozenset(
    {
        *("tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call", "function_call"),
        *("thinking", "reasoning", "reasoning_content", "redacted_thinking", "non_standard"),
    }
)
SendReasoning = Literal["never", "with_tool_calls", "always"]
REASONING = "reasoning_content"
DEVELOPER_ROLE = "__openai_role__"


def to_wire(
    messages: Sequence[BaseMessage],
    *,
    system_role: str,
    send_reasoning: SendReasoning = "with_tool_calls",
) -> list[dict[str, Any]]:
    """Return messages as the `messages` of a request."""
    found = [_message(message, system_role) for message in messages]
    if send_reasoning != "never":
        for message, sent in zip(messages, found, strict=True):
            # DeepSeek's API demands it beside tool calls, and its older models refuse it elsewhere.
            if send_reasoning == "always" or "tool_calls" in sent:
                reasoning = message.additional_kwargs.get(REASONING)
                if isinstance(message, AIMessage) and reasoning and isinstance(reasoning, str):
                    sent[REASONING] = reasoning
    return found


def _message(message: BaseMessage, system_role: str) -> dict[str, Any]:
    content = message.content if isinstance(message.content, str) else _parts(message.content)
    if isinstance(message, ToolMessage):
        return {"role": "tool", "content": content, "tool_call_id": message.tool_call_id}
    found: dict[str, Any] = {"role": _role(message, system_role), "content": content}
    if name := message.name or message.additional_kwargs.get("name"):
        found["name"] = name
    if isinstance(message, AIMessage):
        _add_answer(found, message)
    return found


def _role(message: BaseMessage, system_role: str) -> str:
    if isinstance(message, SystemMessage):
        return str(message.additional_kwargs.get(DEVELOPER_ROLE, system_role))
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    if isinstance(message, FunctionMessage):
        return "function"
    if isinstance(message, ChatMessage):
        return message.role
    raise TypeError(f"a {type(message).__name__} has no role")


def _add_answer(found: dict[str, Any], message: AIMessage) -> None:
    parts = found["content"]
    if isinstance(parts, list) and all(part.get("type") == "text" for part in parts):
        found["content"] = "".join(part["text"] for part in parts)
    extra = message.additional_kwargs
    if message.tool_calls or message.invalid_tool_calls:
        found["tool_calls"] = _calls(message)
    elif function_call := extra.get("function_call"):
        found["function_call"] = function_call
    if "tool_calls" in found or "function_call" in found:
        found["content"] = found["content"] or None
    if refusal := extra.get("refusal"):
        found["refusal"] = refusal
        found["content"] = found["content"] or None
    audio = extra.get("audio")
    if isinstance(audio, dict) and "id" in audio:
        # The answer's sound is not sent back.
        found["audio"] = {"id": audio["id"]}


def _calls(message: AIMessage) -> list[dict[str, Any]]:
    """Return the calls in the order in which the model made them, where that is known."""
    raw_calls = message.additional_kwargs.get("tool_calls")
    raw = {
        call["id"]: (position, call)
        for position, call in enumerate(raw_calls if isinstance(raw_calls, list) else [])
        if isinstance(call, dict) and isinstance(call.get("id"), str)
    }
    calls = [_call(call, raw) for call in message.tool_calls]
    calls += [_call(call, raw) for call in message.invalid_tool_calls]
    return sorted(calls, key=lambda call: raw[call["id"]][0] if call["id"] in raw else len(raw))


def _call(call: ToolCall | InvalidToolCall, raw: dict[str, Any]) -> dict[str, Any]:
    """Return a call; with the model's own text for its arguments, unless the chain changed them.

    Written again, `1.10` would be another text, and so would the order of members.
    """
    arguments = call["args"]
    if isinstance(arguments, str) or arguments is None:
        text = arguments or ""
    else:
        text = json.dumps(arguments, ensure_ascii=False)
        _, original = raw.get(call["id"] or "", (0, {}))
        function = original.get("function")
        made = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(made, str) and tool_calls.parsed(made) == arguments:
            text = made
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": call["name"], "arguments": text},
    }


def _parts(content: list[Any]) -> list[dict[str, Any]]:
    found = []
    for part in content:
        if isinstance(part, str):
            found.append({"type": "text", "text": part})
        elif part.get("type") == "text" and "text" in part:
            # Without what LangChain adds: ids, indexes, annotations.
            found.append({"type": "text", "text": part["text"]})
        elif part.get("type") in LEFT_OUT:
            continue
        elif is_data_content_block(part):
            found.append(convert_to_openai_data_block(part, api="chat/completions"))
        elif part.get("type") == "image" and isinstance(part.get("source"), dict):
            found.append(_anthropic_image(part["source"]))
        else:
            found.append(part)
    return found


def _anthropic_image(source: dict[str, Any]) -> dict[str, Any]:
    url = source.get("url")
    if source.get("type") == "base64":
        url = f"data:{source.get('media_type')};base64,{source.get('data')}"
    return {"type": "image_url", "image_url": {"url": url}}
