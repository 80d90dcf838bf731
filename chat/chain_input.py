"""Give chat messages to a chain in the form it takes."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage

from chat.registry import BuiltChain, ChatInput
from config.errors import InvalidRequest


def to_chain_input(chain: BuiltChain, messages: list[BaseMessage]) -> Any:
    """Return a chain's input made of messages; raises InvalidRequest if it takes none."""
    slug = chain.config.slug
    if chain.chat_input is ChatInput.MESSAGES:
        return {"messages": messages}
    if chain.chat_input is ChatInput.NONE:
        raise InvalidRequest(
            f"{slug} does not take chat messages; call /chains/{slug}/invoke.",
            param="model",
            code="not_a_chat_chain",
        )
    texts = [str(message.text) for message in messages if isinstance(message, HumanMessage)]
    if not texts:
        raise InvalidRequest(
            f"{slug} takes the last user message, and there is none.", param="messages"
        )
    return {chain.text_key: texts[-1]} if chain.text_key else texts[-1]
