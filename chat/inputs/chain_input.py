"""Convert chat messages to the input of a chain."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from pydantic import ValidationError

from chat.chains.registry import BuiltChain, ChatInput
from chat.inputs.langchain_messages import MEDIA_TYPES
from config.api.errors import InvalidRequest

# Between parts of a message that become one text.
PART_BREAK = "\n\n"


def to_chain_input(chain: BuiltChain, messages: list[BaseMessage]) -> Any:
    """Return a chain's input made of messages; raises InvalidRequest if it takes none."""
    slug = chain.config.slug
    if chain.chat_input is ChatInput.NONE:
        raise InvalidRequest(
            f"{slug} does not take chat messages; call /chains/{slug}/invoke.",
            param="model",
            code="not_a_chat_chain",
        )
    if chain.chat_input is ChatInput.LIST:
        return messages
    if chain.chat_input is ChatInput.MESSAGES:
        return _as_declared(chain, {"messages": messages})
    user = next((m for m in reversed(messages) if isinstance(m, HumanMessage)), None)
    if user is None:
        raise InvalidRequest(
            f"{slug} takes the last user message, and there is none.", param="messages"
        )
    _refuse_media(slug, messages, user)
    text = joined_text(user)
    return _as_declared(chain, {chain.text_key: text}) if chain.text_key else text


def _refuse_media(slug: str, messages: list[BaseMessage], user: BaseMessage) -> None:
    """Raise InvalidRequest for a part other than text in the message that the chain takes."""
    for position, part in enumerate(user.content if isinstance(user.content, list) else []):
        if isinstance(part, dict) and part.get("type") in MEDIA_TYPES:
            number = next(index for index, one in enumerate(messages) if one is user)
            raise InvalidRequest(
                f"{slug} takes text only, no {part['type']}.",
                param=f"messages.{number}.content.{position}",
                code="unsupported_content",
            )


def joined_text(message: BaseMessage) -> str:
    """Return the text of a message; several parts are paragraphs of it."""
    if isinstance(message.content, str):
        return message.content
    return PART_BREAK.join(filter(None, map(_text_of, message.content)))


def _text_of(part: str | dict[str, Any]) -> str:
    return part if isinstance(part, str) else str(part.get("text") or "")


def _as_declared(chain: BuiltChain, value: dict[str, Any]) -> Any:
    if chain.input_model is None:
        return value
    try:
        return chain.input_model.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest(
            f"{chain.config.slug} cannot take these messages; see /chains/{chain.config.slug}"
            "/input_schema.",
            param="messages",
        ) from error
