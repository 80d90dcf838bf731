"""The response bodies of OpenAI's chat completions and models.

Source: the response types of openai-python, `openai/types/chat/`.
"""

from typing import Any, Literal

from pydantic import BaseModel

from chat.inputs.shared_schemas import UsageBody


class AnswerFunction(BaseModel):
    """The tool of a call, with its arguments as the model wrote them."""

    name: str
    arguments: str


class AnswerToolCall(BaseModel):
    """One call of a tool."""

    id: str
    type: Literal["function"]
    function: AnswerFunction


class AnswerMessage(BaseModel):
    """The model's message; `refusal` holds the words of one that refused."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    tool_calls: list[AnswerToolCall] | None = None
    reasoning_content: str | None = None
    annotations: list[Any] | None = None


class Choice(BaseModel):
    """The only choice."""

    index: int
    message: AnswerMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]


class ChatCompletion(BaseModel):
    """The answer of `POST /v1/chat/completions` without `stream`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: UsageBody | None
    system_fingerprint: str


class ModelBody(BaseModel):
    """A chain, as OpenAI lists models."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The answer of `GET /v1/models`."""

    object: Literal["list"]
    data: list[ModelBody]
