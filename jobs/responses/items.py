"""The items of a response's input.

Source: the input types of openai-python, `openai/types/responses/`. Items of other kinds, and other
fields that may change something, are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import BeforeValidator, Discriminator, Field, Tag

from chat.inputs.media_parts import AudioPart, FileData, FilePart, ImagePart, ImageUrl, MediaPart
from chat.inputs.shared_schemas import StoredText
from config.api.errors import InvalidRequest
from config.api.validation import RequestModel, list_or_text, one_of

Text = Annotated[StoredText, Field(max_length=settings.MAX_CONTENT_CHARS)]
ItemId = Annotated[str, Field(max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]
CALL, OUTPUT, MESSAGE = "function_call", "function_call_output", "message"


_PARTS = ("input_text", "output_text", "text", "refusal")
_MEDIA = ("input_image", "input_audio", "input_file")


class Part(RequestModel):
    """A piece of a message's text; a part of a response can be sent back unchanged."""

    type: Annotated[Literal["input_text", "output_text", "text"], one_of(*_PARTS, *_MEDIA)]
    text: Text
    annotations: Annotated[list[Any], Field(max_length=1000)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=0)] | None = None
    # Added by OpenAI's SDKs, from the text.
    parsed: Any = None


class Refusal(RequestModel):
    """A piece in which the model refused."""

    type: Literal["refusal"]
    refusal: Text


class ImageItem(MediaPart):
    """An image, as the Responses API has it."""

    kind = "image_url"
    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high", "original"] | None = None

    def payload(self) -> tuple[str, str]:
        """Return the address or the data URL."""
        return "image_url", self.image_url

    def as_sent(self) -> dict[str, Any]:
        """Return the part as chat completions have it."""
        url = ImageUrl(url=self.image_url, detail=self.detail)
        return ImagePart(type="image_url", image_url=url).as_sent()


class FileItem(MediaPart):
    """A file, as the Responses API has it. Files by `file_id` are those of all accounts."""

    kind = "file"
    neutral = {"detail": ("auto",)}
    type: Literal["input_file"]
    file_data: str
    filename: Annotated[StoredText, Field(max_length=256)] | None = None

    def payload(self) -> tuple[str, str]:
        """Return the data URL."""
        return "file_data", self.file_data

    def as_sent(self) -> dict[str, Any]:
        """Return the part as chat completions have it."""
        file = FileData(file_data=self.file_data, filename=self.filename)
        return FilePart(type="file", file=file).as_sent()


def _part_kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"{kind} part" if kind in ("refusal", *_MEDIA) else "text part"


AnyPart = Part | Refusal | MediaPart
Parts = Annotated[
    list[
        Annotated[
            Annotated[Part, Tag("text part")]
            | Annotated[Refusal, Tag("refusal part")]
            | Annotated[ImageItem, Tag("input_image part")]
            | Annotated[AudioPart, Tag("input_audio part")]
            | Annotated[FileItem, Tag("input_file part")],
            Discriminator(_part_kind),
        ]
    ],
    Field(max_length=1000, fail_fast=True),
]
Content = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Parts, Tag("list")], Discriminator(list_or_text)
]


def _only_known(kind: Any) -> Any:
    if kind != MESSAGE:
        raise ValueError(f"must be {MESSAGE}, {CALL} or {OUTPUT}")
    return kind


class InputMessage(RequestModel):
    """One message; an output item of a response can be sent back unchanged."""

    # The first field, so that an item of another kind is refused by it.
    type: Annotated[Literal["message"], BeforeValidator(_only_known)] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: ItemId | None = None
    status: Status | None = None


class FunctionCallItem(RequestModel):
    """A tool that the model called, its arguments as JSON text."""

    type: Literal["function_call"]
    call_id: ItemId
    name: Annotated[StoredText, Field(max_length=128)]
    arguments: Text
    id: ItemId | None = None
    status: Status | None = None
    # Added by OpenAI's SDKs, from the arguments.
    parsed_arguments: Any = None


class FunctionOutputItem(RequestModel):
    """A tool's result."""

    type: Literal["function_call_output"]
    call_id: ItemId
    output: Content
    id: ItemId | None = None
    status: Status | None = None


def _item_kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"{kind} item" if kind in (CALL, OUTPUT) else "message item"


InputItem = Annotated[
    Annotated[InputMessage, Tag("message item")]
    | Annotated[FunctionCallItem, Tag("function_call item")]
    | Annotated[FunctionOutputItem, Tag("function_call_output item")],
    Discriminator(_item_kind),
]
InputItems = Annotated[
    list[InputItem], Field(min_length=1, max_length=settings.MAX_MESSAGES, fail_fast=True)
]


def content_of(item: InputItem) -> str | Sequence[AnyPart]:
    """Return the content of a message, or of a tool's result; a call's is its arguments."""
    if isinstance(item, FunctionCallItem):
        return item.arguments
    return item.output if isinstance(item, FunctionOutputItem) else item.content


def texts_of(content: str | Sequence[AnyPart]) -> list[str]:
    """Return the text of each part of a content that has one."""
    if isinstance(content, str):
        return [content]
    return [_text_of(part) for part in content if not isinstance(part, MediaPart)]


def media_of(items: str | Sequence[InputItem]) -> Iterator[tuple[str, MediaPart]]:
    """Yield each part other than text, with its path; raises InvalidRequest for a wrong one.

    Only the user sends them.
    """
    for number, item in enumerate([] if isinstance(items, str) else items):
        content = content_of(item)
        for position, part in enumerate([] if isinstance(content, str) else content):
            if not isinstance(part, MediaPart):
                continue
            is_output = isinstance(item, FunctionOutputItem)
            param = f"input.{number}.{'output' if is_output else 'content'}.{position}"
            if not (isinstance(item, InputMessage) and item.role == "user"):
                kinds = f"{', '.join(_PARTS[:-1])} or {_PARTS[-1]}"
                raise InvalidRequest(f"{param}.type: must be {kinds}", param=f"{param}.type")
            yield param, part


def content_as_sent(content: str | Sequence[AnyPart]) -> str | list[dict[str, Any]]:
    """Return a content as LangChain's: several parts stay apart, and one text is a text."""
    if isinstance(content, str):
        return content
    if len(content) == 1 and not isinstance(content[0], MediaPart):
        return _text_of(content[0])
    return [
        part.as_sent() if isinstance(part, MediaPart) else {"type": "text", "text": _text_of(part)}
        for part in content
    ] or ""


def _text_of(part: Part | Refusal) -> str:
    return part.text if isinstance(part, Part) else part.refusal
