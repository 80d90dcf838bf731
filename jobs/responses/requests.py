"""The input and the parameters that a job stores of a request for a response."""

from __future__ import annotations

from typing import Any

from chat.chains.registry import BuiltChain, ChatInput
from chat.inputs.chain_input import PART_BREAK
from chat.inputs.tool_calls import langchain_calls, openai_call
from config.api.errors import InvalidRequest
from jobs.inputs import TYPE_BY_ROLE
from jobs.responses.items import (
    FunctionCallItem,
    FunctionOutputItem,
    InputMessage,
    content_as_sent,
    content_of,
    media_of,
    texts_of,
)
from jobs.responses.schemas import ResponseRequest

# The request's fields that a Response repeats.
REPEATED = ("instructions", "max_output_tokens", "temperature", "top_p", "user")


def job_input(chain: BuiltChain, request: ResponseRequest) -> Any:
    """Return the chain's input as JSON; raises InvalidRequest if it takes no messages."""
    slug = chain.config.slug
    if chain.chat_input is ChatInput.NONE:
        raise InvalidRequest(
            f"{slug} does not take chat messages; submit its own input to /v1/jobs.",
            param="model",
            code="not_a_chat_chain",
        )
    if chain.chat_input is ChatInput.TEXT:
        text = _last_user_text(request, slug)
        if text is None:
            raise InvalidRequest(
                f"{slug} takes the last user message, and there is none.", param="input"
            )
        if request.instructions:
            raise InvalidRequest(
                f"{slug} takes the last user message alone, and no instructions.",
                param="instructions",
            )
        return {chain.text_key: text} if chain.text_key else text
    messages = _messages(request)
    return messages if chain.chat_input is ChatInput.LIST else {"messages": messages}


def _last_user_text(request: ResponseRequest, slug: str) -> str | None:
    if isinstance(request.input, str):
        return request.input
    for item in reversed(request.input):
        if isinstance(item, InputMessage) and item.role == "user":
            for param, part in media_of(request.input):
                if any(part is one for one in item.content):
                    raise InvalidRequest(
                        f"{slug} takes text only, no {part.kind}.",
                        param=param,
                        code="unsupported_content",
                    )
            return PART_BREAK.join(texts_of(item.content))
    return None


def _messages(request: ResponseRequest) -> list[dict[str, Any]]:
    """Return LangChain's messages as JSON, the instructions as the first.

    Calls that follow each other, or a message of the model's, are one message with it: providers
    expect a tool's results right after the message with its call.
    """
    messages: list[dict[str, Any]] = []
    if request.instructions:
        messages.append({"type": "system", "content": request.instructions})
    if isinstance(request.input, str):
        return [*messages, {"type": "human", "content": request.input}]
    raw_calls: list[dict[str, Any]] = []
    for item in request.input:
        if isinstance(item, FunctionCallItem):
            raw_calls.append(openai_call(item.call_id, item.name, item.arguments))
            continue
        _add_calls(messages, raw_calls)
        raw_calls = []
        content = content_as_sent(content_of(item))
        if isinstance(item, FunctionOutputItem):
            messages.append({"type": "tool", "content": content, "tool_call_id": item.call_id})
        else:
            messages.append({"type": TYPE_BY_ROLE[item.role], "content": content})
    _add_calls(messages, raw_calls)
    return messages


def _add_calls(messages: list[dict[str, Any]], raw_calls: list[dict[str, Any]]) -> None:
    if not raw_calls:
        return
    if not messages or messages[-1]["type"] != "ai":
        messages.append({"type": "ai", "content": ""})
    messages[-1] |= langchain_calls(raw_calls)


def job_request(request: ResponseRequest) -> dict[str, Any]:
    """Return the fields that a job stores: those that are repeated, and the model's `options`."""
    options = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_output_tokens,
        "user": request.user,
    }
    return {
        "background": bool(request.background),
        "options": {name: value for name, value in options.items() if value is not None},
        **{name: getattr(request, name) for name in REPEATED},
    }
