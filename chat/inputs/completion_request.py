"""The request body of OpenAI's chat completions, as far as Headrace supports it.

Source: the request types of openai-python, `openai/types/chat/`. A field that is not here is
refused by name.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import Field, model_validator

from config.api.json import refuse_many_items
from config.api.validation import RequestModel

Text = Annotated[str, Field(max_length=settings.MAX_CONTENT_CHARS)]
Name = Annotated[str, Field(max_length=256)]
Stop = Annotated[str, Field(max_length=1024)]


class TextPart(RequestModel):
    """A piece of a message; of the kinds that OpenAI has, only text is supported."""

    type: Literal["text"]
    text: Text


Content = Text | Annotated[list[TextPart], Field(min_length=1, max_length=1000, fail_fast=True)]


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


class ToolCall(RequestModel):
    """One call in an assistant's message."""

    id: Annotated[str, Field(max_length=256)]
    type: Literal["function"] = "function"
    function: FunctionCall


class AssistantMessage(RequestModel):
    """An earlier message of the model; an answer of this API can be sent back as it came."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128, fail_fast=True)] | None = None
    name: Name | None = None
    # An SDK's message object carries these, all empty when it came from Headrace.
    refusal: Text | None = None
    annotations: Annotated[list[Any], Field(max_length=1000)] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(RequestModel):
    """A tool's result."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, Field(max_length=256)]


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class FunctionDefinition(RequestModel):
    """A tool the model may call; `parameters` is a JSON schema."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(RequestModel):
    """One entry of `tools`."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(RequestModel):
    """The name in a `tool_choice` object."""

    name: Name


class NamedToolChoice(RequestModel):
    """The tool that the model must call."""

    type: Literal["function"]
    function: NamedFunction


class StreamOptions(RequestModel):
    """`include_usage` adds a last chunk with the token counts."""

    include_usage: bool = False


class ChatCompletionRequest(RequestModel):
    """The body of `POST /v1/chat/completions`; `model` is a chain's slug."""

    model: Annotated[str, Field(min_length=1, max_length=64)]
    messages: Annotated[
        list[Message], Field(min_length=1, max_length=settings.MAX_MESSAGES, fail_fast=True)
    ]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4, fail_fast=True)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    n: Literal[1] | None = None
    tools: Annotated[list[Tool], Field(max_length=128, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    @model_validator(mode="after")
    def check_together(self) -> "ChatCompletionRequest":
        """Refuse combinations of fields that exclude each other."""
        if self.max_tokens and self.max_completion_tokens:
            raise ValueError("give max_tokens or max_completion_tokens, not both")
        if self.stream_options and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        if self.tool_choice and not self.tools:
            raise ValueError("tool_choice needs tools")
        arguments = [call.function.arguments for call in calls_of(self.messages)]
        check_amount(
            parts=sum(part_count(message.content) for message in self.messages),
            chars=sum(content_length(message.content) for message in self.messages)
            + sum(map(len, arguments)),
        )
        # They are JSON texts, which will be parsed.
        refuse_many_items(*(text.encode() for text in arguments), param="messages")
        return self


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


def content_length(content: str | list[TextPart] | None) -> int:
    """Return the number of characters in a message's content."""
    if isinstance(content, list):
        return sum(len(part.text) for part in content)
    return len(content or "")
