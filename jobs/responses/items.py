"""The items of a response's input.

Source: the input types of openai-python, `openai/types/responses/`. Items of other kinds, and other
fields that may change something, are refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import BeforeValidator, Discriminator, Field, Tag

from chat.inputs.shared_schemas import StoredText
from config.api.validation import RequestModel, list_or_text

Text = Annotated[StoredText, Field(max_length=settings.MAX_CONTENT_CHARS)]
ItemId = Annotated[str, Field(max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]
CALL, OUTPUT, MESSAGE = "function_call", "function_call_output", "message"


class Part(RequestModel):
    """A piece of a message's text; a part of a response can be sent back unchanged."""

    type: Literal["input_text", "output_text", "text"]
    text: Text
    annotations: Annotated[list[Any], Field(max_length=1000)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=0)] | None = None
    # Added by OpenAI's SDKs, from the text.
    parsed: Any = None


class Refusal(RequestModel):
    """A piece in which the model refused."""

    type: Literal["refusal"]
    refusal: Text


def _part_kind(value: Any) -> str:
    is_refusal = isinstance(value, dict) and value.get("type") == "refusal"
    return "refusal part" if is_refusal else "text part"


Parts = Annotated[
    list[
        Annotated[
            Annotated[Part, Tag("text part")] | Annotated[Refusal, Tag("refusal part")],
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


def content_of(item: InputItem) -> str | list[Part | Refusal]:
    """Return the content of a message, or of a tool's result; a call's is its arguments."""
    if isinstance(item, FunctionCallItem):
        return item.arguments
    return item.output if isinstance(item, FunctionOutputItem) else item.content


def texts_of(content: str | list[Part | Refusal]) -> list[str]:
    """Return the text of each part of a content."""
    if isinstance(content, str):
        return [content]
    return [part.text if isinstance(part, Part) else part.refusal for part in content]
