"""The bodies of OpenAI's Responses API, as far as Headrace speaks them.

Source: the request and response types of openai-python, `openai/types/responses/`. Other fields are
refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from chat.inputs.completion_request import check_amount, part_count
from chat.inputs.shared_schemas import Metadata, StoredText
from config.api.validation import RequestModel

Text = Annotated[StoredText, Field(max_length=settings.MAX_CONTENT_CHARS)]


def _kind(value: Any) -> str:
    return "list" if isinstance(value, list) else "text"


class Part(RequestModel):
    """A piece of a message's text; a part of a response can be sent back unchanged."""

    type: Literal["input_text", "output_text", "text"]
    text: Text
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=0)] | None = None


Parts = Annotated[list[Part], Field(min_length=1, max_length=1000, fail_fast=True)]


class InputMessage(RequestModel):
    """One message; an output item of a response can be sent back unchanged."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[
        Annotated[Text, Tag("text")] | Annotated[Parts, Tag("list")], Discriminator(_kind)
    ]
    type: Literal["message"] = "message"
    id: Annotated[str, Field(max_length=256)] | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


Messages = Annotated[
    list[InputMessage], Field(min_length=1, max_length=settings.MAX_MESSAGES, fail_fast=True)
]


class ResponseStreamOptions(RequestModel):
    """Headrace never pads its events."""

    include_obfuscation: Literal[False] | None = None


class ResponseRequest(RequestModel):
    """The body of `POST /v1/responses`; `model` is a chain's slug."""

    model: Annotated[str, Field(min_length=1, max_length=64)]
    input: Annotated[
        Annotated[Text, Field(min_length=1), Tag("text")] | Annotated[Messages, Tag("list")],
        Discriminator(_kind),
    ]
    instructions: Text | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    metadata: Metadata | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    store: Literal[True] | None = None
    user: Annotated[StoredText, Field(max_length=512)] | None = None

    @model_validator(mode="after")
    def check_together(self) -> ResponseRequest:
        """Check the rules between fields."""
        if self.stream_options and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        items = [] if isinstance(self.input, str) else self.input
        check_amount(
            parts=sum(part_count(message.content) for message in items),
            chars=sum(len(text) for _, text in messages_of(self)),
        )
        return self


def messages_of(request: ResponseRequest) -> list[tuple[str, str]]:
    """Return the role and text of each message, the instructions as the first."""
    messages = [("system", request.instructions)] if request.instructions else []
    if isinstance(request.input, str):
        return [*messages, ("user", request.input)]
    for message in request.input:
        content = message.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        messages.append((message.role, text))
    return messages


class ResponseErrorBody(BaseModel):
    """Why a response failed: `code` is one of OpenAI's, `type` is Headrace's error code."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str
    type: str


class IncompleteDetails(BaseModel):
    """Why a response ends early."""

    reason: Literal["max_output_tokens", "content_filter"]


class OutputText(BaseModel):
    """The text of an output message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class OutputMessage(BaseModel):
    """The model's message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class OutputFunctionCall(BaseModel):
    """A tool that the chain's model called; `arguments` is JSON text."""

    id: str
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    status: Literal["completed"]


class CachedTokens(BaseModel):
    """Always 0: chains report none."""

    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokens(BaseModel):
    """Always 0: chains report none."""

    reasoning_tokens: int


class ResponseUsageBody(BaseModel):
    """Token counts, as the provider reported them."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class ResponseBody(BaseModel):
    """A response; times are Unix seconds."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
    background: bool
    error: ResponseErrorBody | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage | OutputFunctionCall]
    parallel_tool_calls: bool
    previous_response_id: None
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: Literal["auto"]
    tools: list[Any]
    top_p: float | None
    truncation: Literal["disabled"]
    usage: ResponseUsageBody | None
    user: str | None
