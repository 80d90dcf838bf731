"""The response bodies of OpenAI's chat completions and models.

Source: the response types of openai-python, `openai/types/chat/`.
"""

from typing import Literal

from pydantic import BaseModel

from chat.inputs.completion_request import ToolCall
from chat.inputs.shared_schemas import UsageBody


class AnswerMessage(BaseModel):
    """The model's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


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
