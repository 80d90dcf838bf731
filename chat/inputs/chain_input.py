"""Convert chat messages to the input of a chain."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from pydantic import ValidationError

from chat.chains.registry import BuiltChain, ChatInput
from config.api.errors import InvalidRequest


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
    texts = [str(message.text) for message in messages if isinstance(message, HumanMessage)]
    if not texts:
        raise InvalidRequest(
            f"{slug} takes the last user message, and there is none.", param="messages"
        )
    return _as_declared(chain, {chain.text_key: texts[-1]}) if chain.text_key else texts[-1]


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
