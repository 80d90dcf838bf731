"""The bodies of OpenAI's Responses API, as far as Headrace speaks them.

Source: the request and response types of openai-python, `openai/types/responses/`. Other fields
that may change something are refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from chat.inputs.completion_messages import check_amount, part_count
from chat.inputs.completion_request import Label
from chat.inputs.media_parts import check_media
from chat.inputs.shared_schemas import Metadata, StoredText
from config.api.errors import InvalidRequest
from config.api.json import refuse_many_items
from config.api.validation import Integer, RequestModel, list_or_text
from jobs.responses.items import FunctionCallItem, InputItems, Text, content_of, media_of, texts_of


class ResponseStreamOptions(RequestModel):
    """Headrace never pads its events."""

    include_obfuscation: Literal[False] | None = None


class ReasoningOptions(RequestModel):
    """None is supported: SDKs send the object with nulls."""


class TextFormat(RequestModel):
    """The only format of text that is supported."""

    type: Literal["text"]


class TextOptions(RequestModel):
    """The defaults of OpenAI, which change nothing."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponseRequest(RequestModel):
    """The body of `POST /v1/responses`; `model` is a chain's slug."""

    model: Annotated[str, Field(min_length=1, max_length=64)]
    input: Annotated[
        Annotated[Text, Field(min_length=1), Tag("text")] | Annotated[InputItems, Tag("list")],
        Discriminator(list_or_text),
    ]
    instructions: Text | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    metadata: Metadata | None = None
    max_output_tokens: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    store: Literal[True] | None = None
    user: Annotated[StoredText, Field(max_length=512)] | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    # These say how OpenAI bills and finds a request, and change no answer.
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None

    neutral = {
        "parallel_tool_calls": (True, False),
        "tool_choice": ("auto", "none"),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
    }

    @model_validator(mode="after")
    def check_together(self) -> ResponseRequest:
        """Check the rules between fields."""
        items = [] if isinstance(self.input, str) else self.input
        contents = [content_of(item) for item in items]
        chars = len(self.input) if isinstance(self.input, str) else 0
        check_amount(
            parts=sum(map(part_count, contents)),
            chars=chars
            + len(self.instructions or "")
            + sum(len(text) for content in contents for text in texts_of(content)),
        )
        check_media(media_of(items))
        calls = [item for item in items if isinstance(item, FunctionCallItem)]
        # They are JSON texts, which will be parsed.
        refuse_many_items(*(call.arguments.encode() for call in calls), param="input")
        known: set[str] = set()
        for index, item in enumerate(items):
            if isinstance(item, FunctionCallItem):
                known.add(item.call_id)
            elif (call_id := getattr(item, "call_id", None)) and call_id not in known:
                raise InvalidRequest(
                    f"input.{index}.call_id: there is no such call before it.",
                    param=f"input.{index}.call_id",
                )
        return self


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


class OutputRefusal(BaseModel):
    """The words with which the model refused."""

    type: Literal["refusal"]
    refusal: str


class OutputMessage(BaseModel):
    """The model's message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText | OutputRefusal]


class OutputFunctionCall(BaseModel):
    """A tool that the chain's model called; `arguments` is JSON text."""

    id: str
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed", "incomplete"]


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
