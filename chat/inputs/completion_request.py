"""The request body of OpenAI's chat completions, as far as Headrace supports it.

Source: the request types of openai-python, `openai/types/chat/`. A field that is not here, and may
change something, is refused by name.
"""

from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from chat.inputs.completion_messages import (
    Message,
    Name,
    Text,
    calls_of,
    check_amount,
    content_length,
    media_of,
    part_count,
)
from chat.inputs.media_parts import check_media
from chat.inputs.shared_schemas import Metadata
from config.api.errors import InvalidRequest
from config.api.json import refuse_many_items
from config.api.validation import Integer, RequestModel, list_or_text, object_or_text, whole

Stop = Annotated[str, Field(max_length=1024)]
Label = Annotated[str, Field(max_length=512)]


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
    """`include_usage` adds a last chunk with the token counts; chunks are never padded."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


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
    max_tokens: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = None
    stop: (
        Annotated[
            Annotated[Stop, Tag("text")]
            | Annotated[list[Stop], Field(max_length=4, fail_fast=True), Tag("list")],
            Discriminator(list_or_text),
        ]
        | None
    ) = None
    seed: Annotated[Integer, Field(ge=-(2**63), lt=2**63)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    n: Annotated[Literal[1], BeforeValidator(whole)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128, fail_fast=True)] | None = None
    tool_choice: (
        Annotated[
            Annotated[Literal["none", "auto", "required"], Tag("text")]
            | Annotated[NamedToolChoice, Tag("object")],
            Discriminator(object_or_text),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    user: Label | None = None
    # These say how OpenAI bills, stores and finds a request, and change no answer.
    metadata: Metadata | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None

    neutral = {
        "function_call": ("none", "auto"),
        "logit_bias": ({},),
        "logprobs": (False,),
        "modalities": (["text"],),
        "store": (False,),
        "top_logprobs": (0,),
        "verbosity": ("medium",),
    }

    @model_validator(mode="after")
    def check_together(self) -> "ChatCompletionRequest":
        """Refuse combinations of fields that exclude each other."""
        both = (self.max_tokens, self.max_completion_tokens)
        if all(both) and both[0] != both[1]:
            raise InvalidRequest(
                "Give max_tokens or max_completion_tokens, not both.", param="max_tokens"
            )
        if self.stream_options and self.stream_options.include_usage and not self.stream:
            raise InvalidRequest("stream_options needs stream to be true.", param="stream_options")
        self._check_tool_choice()
        arguments = [call.function.arguments for call in calls_of(self.messages)]
        check_amount(
            parts=sum(part_count(message.content) for message in self.messages),
            chars=sum(content_length(message.content) for message in self.messages)
            + sum(map(len, arguments)),
        )
        check_media(media_of(self.messages))
        # They are JSON texts, which will be parsed.
        refuse_many_items(*(text.encode() for text in arguments), param="messages")
        return self

    def _check_tool_choice(self) -> None:
        choice = self.tool_choice
        names = {tool.function.name for tool in self.tools or []}
        if choice == "required" and not names:
            raise InvalidRequest("tool_choice needs tools.", param="tool_choice")
        if isinstance(choice, NamedToolChoice) and choice.function.name not in names:
            raise InvalidRequest("tool_choice names none of the tools.", param="tool_choice")
