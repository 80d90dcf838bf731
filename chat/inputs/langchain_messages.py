"""LangChain's messages as they come over the wire: objects tagged by `type`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chat.inputs.errors import from_validation, invalid_input

MESSAGE_CLASSES: dict[str, type[BaseMessage]] = {
    "human": HumanMessage,
    "ai": AIMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
    "chat": ChatMessage,
    "function": FunctionMessage,
    "HumanMessageChunk": HumanMessageChunk,
    "AIMessageChunk": AIMessageChunk,
    "SystemMessageChunk": SystemMessageChunk,
    "ToolMessageChunk": ToolMessageChunk,
    "ChatMessageChunk": ChatMessageChunk,
    "FunctionMessageChunk": FunctionMessageChunk,
}


# Parts that hold an image, a sound or a file, in a member of their type's name.
MEDIA_TYPES = ("image_url", "input_audio", "file")

_Item = TypeVar("_Item")
# An error names the first wrong item of many alone.
_List = Annotated[list[_Item], Field(fail_fast=True)]


class _Shape(BaseModel):
    # Clients with a newer LangChain may send fields that ours passes on unread.
    model_config = ConfigDict(strict=True, extra="allow")


class _Text(_Shape):
    type: Literal["text"]
    text: str


class _ImageUrl(_Shape):
    url: str


class _Image(_Shape):
    type: Literal["image_url"]
    image_url: _ImageUrl


class _AudioData(_Shape):
    data: str


class _Audio(_Shape):
    type: Literal["input_audio"]
    input_audio: _AudioData


class _FileData(_Shape):
    file_data: str


class _File(_Shape):
    type: Literal["file"]
    file: _FileData


class _ModelOutput(_Shape):
    """Blocks that models put between their words; they come back in the history of a chat."""

    type: Literal[
        "tool_use",
        "tool_call",
        "thinking",
        "redacted_thinking",
        "reasoning",
        "reasoning_content",
        "refusal",
    ]


_Part = Annotated[_Text | _Image | _Audio | _File | _ModelOutput, Field(discriminator="type")]


class _ToolCall(_Shape):
    model_config = ConfigDict(extra="forbid")

    type: Literal["tool_call"] = "tool_call"
    id: str | None = None
    name: str
    args: dict[str, Any]


class _InvalidToolCall(_Shape):
    model_config = ConfigDict(extra="forbid")

    type: Literal["invalid_tool_call"] = "invalid_tool_call"
    id: str | None = None
    name: str | None
    args: str | None
    error: str | None = None


class _ToolCallChunk(_Shape):
    model_config = ConfigDict(extra="forbid")

    type: Literal["tool_call_chunk"] = "tool_call_chunk"
    id: str | None = None
    name: str | None
    args: str | None
    index: int | None = None


class _FunctionCall(_Shape):
    name: str
    arguments: str


class _OpenAiToolCall(_Shape):
    function: _FunctionCall


class _Additional(_Shape):
    """The keys that LangChain's model classes read; others go with the message unread."""

    name: str | None = None
    tool_calls: _List[_OpenAiToolCall] | None = None
    function_call: _FunctionCall | None = None
    audio: dict[str, Any] = {}


class _Message(_Shape):
    """Fields that LangChain's message classes accept unchecked, and its model classes fail on."""

    type: str
    content: str | _List[str | _Part]
    name: str | None = None
    additional_kwargs: _Additional = _Additional()
    response_metadata: dict[str, Any] = {}
    tool_calls: _List[_ToolCall] = []
    invalid_tool_calls: _List[_InvalidToolCall] = []
    tool_call_chunks: _List[_ToolCallChunk] = []


def is_message(value: dict[str, Any]) -> bool:
    """Return whether an object is meant as a message."""
    kind = value.get("type")
    return isinstance(kind, str) and kind in MESSAGE_CLASSES and "content" in value


def decode_message(value: dict[str, Any], *, param: str) -> BaseMessage:
    """Return the message; raises InvalidRequest (422) that names the wrong part."""
    try:
        _Message.model_validate(value)
        # Some of the classes change the mapping that they are made of.
        return MESSAGE_CLASSES[value["type"]].model_validate(dict(value))
    except ValidationError as error:
        raise from_validation(error, value, param=param) from error
    # Their own code, which runs before pydantic's, raises these.
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise invalid_input("this is not a LangChain message.", param=param) from error


def content_length(message: BaseMessage) -> int:
    """Return the number of characters in a message's content, without images, sounds and files."""
    if isinstance(message.content, str):
        return len(message.content)
    return sum(len(str(part)) for part in message.content if not _is_media(part))


def media_sizes(message: BaseMessage) -> list[int]:
    """Return the number of characters in each image, sound and file of a message."""
    parts = message.content if isinstance(message.content, list) else []
    return [
        sum(len(text) for text in part[part["type"]].values() if isinstance(text, str))
        for part in parts
        if isinstance(part, dict) and _is_media(part)
    ]


def _is_media(part: str | dict[str, Any]) -> bool:
    # Others than text are objects, of which the shapes above have seen.
    return isinstance(part, dict) and part.get("type") in MEDIA_TYPES
