"""The messages of a chat completion's request.

Source: the request types of openai-python, `openai/types/chat/`. A field that is not here, and may
change something, is refused by name.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import Discriminator, Field, Tag

from config.api.validation import Integer, RequestModel, list_or_text

Text = Annotated[str, Field(max_length=settings.MAX_CONTENT_CHARS)]
Name = Annotated[str, Field(max_length=256)]


class TextPart(RequestModel):
    """A piece of a message; of the kinds that OpenAI has, only text is supported."""

    type: Literal["text"]
    text: Text


class RefusalPart(RequestModel):
    """A piece in which the model refused."""

    type: Literal["refusal"]
    refusal: Text


def _part_kind(value: Any) -> str:
    is_refusal = isinstance(value, dict) and value.get("type") == "refusal"
    return "refusal part" if is_refusal else "text part"


AnswerPart = Annotated[
    Annotated[TextPart, Tag("text part")] | Annotated[RefusalPart, Tag("refusal part")],
    Discriminator(_part_kind),
]
Parts = Annotated[list[TextPart], Field(max_length=1000, fail_fast=True)]
AnswerParts = Annotated[list[AnswerPart], Field(max_length=1000, fail_fast=True)]
# A list may be empty: some clients write no text so.
Content = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Parts, Tag("list")], Discriminator(list_or_text)
]
AnswerContent = Annotated[
    Annotated[Text, Tag("text")] | Annotated[AnswerParts, Tag("list")], Discriminator(list_or_text)
]


class SystemMessage(RequestModel):
    """Instructions for the model; a chain's own system prompt comes before them."""

    role: Literal["system", "developer"]
    content: Content
    name: Name | None = None


class UserMessage(RequestModel):
    """The user's message."""

    role: Literal["user"]
    content: Content
    name: Name | None = None


class FunctionCall(RequestModel):
    """A tool the model called, its arguments as JSON text."""

    name: Annotated[str, Field(max_length=128)]
    arguments: Text
    # Added by OpenAI's SDKs, from the arguments.
    parsed_arguments: Any = None


class ToolCall(RequestModel):
    """One call in an assistant's message."""

    id: Annotated[str, Field(max_length=256)]
    type: Literal["function"] = "function"
    function: FunctionCall
    # Of a call that was streamed; in a history the order is that of the list.
    index: Integer | None = None


class AssistantMessage(RequestModel):
    """An earlier message of the model; an answer of this API can be sent back as it came."""

    role: Literal["assistant"]
    content: AnswerContent | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128, fail_fast=True)] | None = None
    name: Name | None = None
    refusal: Text | None = None
    # Thinking: by the name that Headrace sends, and by the one that some servers have.
    reasoning_content: Text | None = None
    reasoning: Text | None = None
    annotations: Annotated[list[Any], Field(max_length=1000)] | None = None
    # Added by OpenAI's SDKs, from the content.
    parsed: Any = None

    neutral = {"provider_specific_fields": ({},)}


class ToolMessage(RequestModel):
    """A tool's result; the call is identified by its id, and `name` is passed on."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, Field(max_length=256)]
    name: Name | None = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


def check_amount(*, parts: int, chars: int) -> None:
    """Raise ValueError for messages with too many parts or characters together."""
    if parts > settings.MAX_CONTENT_PARTS:
        raise ValueError(
            f"the messages together may have {settings.MAX_CONTENT_PARTS} parts (MAX_CONTENT_PARTS)"
        )
    if chars > settings.MAX_CONTENT_CHARS:
        raise ValueError(
            f"the messages together may have {settings.MAX_CONTENT_CHARS} chars (MAX_CONTENT_CHARS)"
        )


def part_count(content: str | list[Any] | None) -> int:
    """Return the number of parts in a message's content; a text is none."""
    return len(content) if isinstance(content, list) else 0


def calls_of(messages: Sequence[Message]) -> list[ToolCall]:
    """Return all tool calls of all messages."""
    return [
        call
        for message in messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls or []
    ]


def content_length(content: str | list[TextPart] | list[TextPart | RefusalPart] | None) -> int:
    """Return the number of characters in a message's content."""
    return sum(map(len, texts_of(content)))


def texts_of(content: str | list[TextPart] | list[TextPart | RefusalPart] | None) -> list[str]:
    """Return the text of each part of a message's content."""
    if isinstance(content, list):
        return [part.text if isinstance(part, TextPart) else part.refusal for part in content]
    return [content] if content else []
