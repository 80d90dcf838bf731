"""Convert the messages and options of OpenAI's requests to LangChain's."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from chat.inputs import completion_messages
from chat.inputs.completion_messages import texts_of
from chat.inputs.completion_request import ChatCompletionRequest
from chat.inputs.media_parts import MediaPart
from chat.inputs.tool_calls import langchain_calls, openai_call

TEXT_FORMAT = {"type": "text"}
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
    if options.get("response_format") == TEXT_FORMAT:
        del options["response_format"]
    if max_tokens := request.max_completion_tokens or request.max_tokens:
        options["max_tokens"] = max_tokens
    if request.stop:
        options["stop"] = [request.stop] if isinstance(request.stop, str) else request.stop
    if not request.tools:
        # These change nothing without tools, and providers refuse them.
        options.pop("parallel_tool_calls", None)
        return options
    options["tools"] = [tool.model_dump(exclude_none=True) for tool in request.tools]
    if choice := request.tool_choice:
        options["tool_choice"] = choice if isinstance(choice, str) else choice.model_dump()
    return options


def to_langchain(message: completion_messages.Message) -> BaseMessage:
    """Return one message of a request as LangChain's."""
    content = _content(message)
    if isinstance(message, completion_messages.SystemMessage):
        return SystemMessage(content, name=message.name)
    if isinstance(message, completion_messages.UserMessage):
        return HumanMessage(content, name=message.name)
    if isinstance(message, completion_messages.ToolMessage):
        name = message.name or None
        return ToolMessage(content, tool_call_id=message.tool_call_id, name=name)
    fields: dict[str, Any] = {"additional_kwargs": {}}
    if calls := message.tool_calls:
        fields = langchain_calls(
            [openai_call(c.id, c.function.name, c.function.arguments) for c in calls]
        )
    if reasoning := message.reasoning_content or message.reasoning:
        fields["additional_kwargs"]["reasoning_content"] = reasoning
    # A model that reads its own refusal would take an empty message for no answer at all.
    return AIMessage(content or message.refusal or "", name=message.name, **fields)


def _content(message: completion_messages.Message) -> Any:
    """Return a content as LangChain's: several parts stay apart, and one text is a text."""
    content = message.content
    if isinstance(content, list) and any(isinstance(part, MediaPart) for part in content):
        return [
            part.as_sent()
            if isinstance(part, MediaPart)
            else {"type": "text", "text": "".join(texts_of([part]))}
            for part in content
        ]
    texts = texts_of(content)
    if len(texts) < 2:
        return "".join(texts)
    return [{"type": "text", "text": text} for text in texts]
