"""A chain's instructions and the client's, as one message."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage, SystemMessage

from chat.inputs.chain_input import PART_BREAK, joined_text


def with_system_prompt(prompt: str, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the messages after one system message: the prompt, a blank line, the client's own.

    The prompt templates of many models take one system message, as the first, or lose the others.
    """
    count = 0
    while count < len(messages) and isinstance(messages[count], SystemMessage):
        count += 1
    leading = list(messages[:count])
    if prompt:
        leading.insert(0, SystemMessage(prompt))
    if len(leading) > 1:
        leading = [SystemMessage(PART_BREAK.join(map(joined_text, leading)))]
    return [*leading, *messages[count:]]
