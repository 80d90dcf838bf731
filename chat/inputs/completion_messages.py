"""The messages of a chat completion's request.

Source: the request types of openai-python, `openai/types/chat/`. A field that is not here, and may
change something, is refused by name.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from chat.inputs.media_parts import AudioPart, FilePart, ImagePart, MediaPart
from config.api.validation import Integer, RequestModel, one_of

Text = Annotated[str, Field(max_length=settings.MAX_CONTENT_CHARS)]
Name = Annotated[str, Field(max_length=256)]


class TextPart(RequestModel):
    """A piece of a message's text."""

    type: Literal["text"]
    text: Text


class UserTextPart(TextPart):
    """A piece of a user's text, and the model that refuses parts of other types."""

    type: Annotated[Literal["text"], one_of("text", "image_url", "input_audio", "file")]


class AnswerTextPart(TextPart):
    """A piece of a model's text, and the model that refuses parts of other types."""

    type: Annotated[Literal["text"], one_of("text", "refusal")]


class PlainTextPart(BaseModel):
    """A text part of these two members: without the step that looks for neutral ones."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text"]
    text: Text


class RefusalPart(RequestModel):
    """A piece in which the model refused."""

    type: Literal["refusal"]
    refusal: Text


def _part_kind(value: Any) -> str:
    is_refusal = isinstance(value, dict) and value.get("type") == "refusal"
    return "refusal part" if is_refusal else "text part"


def _user_part_kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"{kind} part" if kind in ("image_url", "input_audio", "file") else "text part"


UserPart = Annotated[
    Annotated[UserTextPart, Tag("text part")]
    | Annotated[ImagePart, Tag("image_url part")]
    | Annotated[AudioPart, Tag("input_audio part")]
    | Annotated[FilePart, Tag("file part")],
    Discriminator(_user_part_kind),
]
AnswerPart = Annotated[
    Annotated[AnswerTextPart, Tag("text part")] | Annotated[RefusalPart, Tag("refusal part")],
    Discriminator(_part_kind),
]


def _content_kind(value: Any) -> str:
    """Return the tag of a content; plain texts need no choice between kinds for each part."""
    if not isinstance(value, list):
        return "text"
    for part in value:
        if not isinstance(part, dict) or len(part) != 2 or part.get("type") != "text":
            return "list"
    return "list of texts"


PlainTexts = Annotated[list[PlainTextPart], Field(max_length=1000, fail_fast=True)]
Parts = Annotated[list[TextPart], Field(max_length=1000, fail_fast=True)]
UserParts = Annotated[list[UserPart], Field(max_length=1000, fail_fast=True)]
AnswerParts = Annotated[list[AnswerPart], Field(max_length=1000, fail_fast=True)]
# A list may be empty: some clients write no text so.
Content = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[PlainTexts, Tag("list of texts")]
    | Annotated[Parts, Tag("list")],
    Discriminator(_content_kind),
]
UserContent = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[PlainTexts, Tag("list of texts")]
    | Annotated[UserParts, Tag("list")],
    Discriminator(_content_kind),
]
AnswerContent = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[PlainTexts, Tag("list of texts")]
    | Annotated[AnswerParts, Tag("list")],
    Discriminator(_content_kind),
]


class SystemMessage(RequestModel):
    """Instructions for the model; a chain's own system prompt comes before them."""

    role: Literal["system", "developer"]
    content: Content
    name: Name | None = None


class UserMessage(RequestModel):
    """The user's message."""

    role: Literal["user"]
    content: UserContent
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
    # Added by LiteLLM, from fields of the answer that are in the message too.
    provider_specific_fields: dict[str, Any] | None = None


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


def part_count(content: str | Sequence[Any] | None) -> int:
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


def media_of(messages: Sequence[Message]) -> Iterator[tuple[str, MediaPart]]:
    """Yield each part other than text, with its path in the request."""
    for number, message in enumerate(messages):
        content = message.content
        if isinstance(content, list) and not _is_plain(content):
            for position, part in enumerate(content):
                if isinstance(part, MediaPart):
                    yield f"messages.{number}.content.{position}", part


def _is_plain(content: Any) -> bool:
    """Return whether a content is a list of plain texts; such a list has nothing else."""
    return isinstance(content, list) and bool(content) and type(content[0]) is PlainTextPart


def content_length(content: Any) -> int:
    """Return the number of characters in a message's texts."""
    if _is_plain(content):
        return sum([len(part.text) for part in content])
    return sum(map(len, texts_of(content)))


def texts_of(
    content: str | Sequence[PlainTextPart | TextPart | RefusalPart | MediaPart] | None,
) -> list[str]:
    """Return the text of each part of a message's content that has one."""
    if isinstance(content, str):
        return [content] if content else []
    return [
        part.refusal if isinstance(part, RefusalPart) else part.text
        for part in content or ()
        if not isinstance(part, MediaPart)
    ]
