"""The bodies of the conversations API."""

from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import BaseModel, Field

from chat.inputs.shared_schemas import Metadata, StoredText, UsageBody
from config.api.validation import RequestModel


class ConversationCreate(RequestModel):
    """The body of `POST /v1/conversations`."""

    chain: Annotated[str, Field(min_length=1, max_length=64)]
    metadata: Metadata = {}


class ConversationUpdate(RequestModel):
    """The body of `PATCH /v1/conversations/{id}`; all metadata is replaced."""

    metadata: Metadata


class MessageCreate(RequestModel):
    """The body of `POST /v1/conversations/{id}/messages`."""

    content: Annotated[StoredText, Field(min_length=1, max_length=settings.MAX_CONTENT_CHARS)]
    stream: bool = False


class ConversationBody(BaseModel):
    """A conversation."""

    id: str
    object: Literal["conversation"]
    created_at: int
    chain: str
    metadata: dict[str, str]


class ConversationDeleted(BaseModel):
    """The answer of `DELETE /v1/conversations/{id}`."""

    id: str
    object: Literal["conversation.deleted"]
    deleted: bool


class MessageBody(BaseModel):
    """A message; an `incomplete` one holds the text before `error_code`."""

    id: str
    object: Literal["conversation.message"]
    conversation_id: str
    created_at: int
    role: Literal["user", "assistant"]
    status: Literal["completed", "incomplete"]
    content: str
    error_code: str | None
    usage: UsageBody | None


class ConversationList(BaseModel):
    """A page of conversations."""

    object: Literal["list"]
    data: list[ConversationBody]
    has_more: bool
    first_id: str | None
    last_id: str | None


class MessageList(BaseModel):
    """A page of messages."""

    object: Literal["list"]
    data: list[MessageBody]
    has_more: bool
    first_id: str | None
    last_id: str | None


def conversation_body(conversation: Any) -> dict[str, Any]:
    """Return a Conversation as ConversationBody; its chain must be loaded."""
    return {
        "id": str(conversation),
        "object": "conversation",
        "created_at": int(conversation.created_at.timestamp()),
        "chain": conversation.chain.slug,
        "metadata": conversation.metadata,
    }


def message_body(message: Any) -> dict[str, Any]:
    """Return a Message as MessageBody."""
    usage = None
    if message.prompt_tokens is not None and message.completion_tokens is not None:
        usage = {
            "prompt_tokens": message.prompt_tokens,
            "completion_tokens": message.completion_tokens,
            "total_tokens": message.prompt_tokens + message.completion_tokens,
        }
    return {
        "id": str(message),
        "object": "conversation.message",
        "conversation_id": f"conv_{message.conversation_id.hex}",
        "created_at": int(message.created_at.timestamp()),
        "role": message.role,
        "status": message.status,
        "content": message.content,
        "error_code": message.error_code or None,
        "usage": usage,
    }
