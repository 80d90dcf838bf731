"""One system message for the provider."""

from __future__ import annotations

import pytest
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from chat.chains.system_messages import with_system_prompt

USER = HumanMessage("Hello")
PARTS = SystemMessage([{"type": "text", "text": "b"}, {"type": "text", "text": "c"}])


@pytest.mark.parametrize(
    ("prompt", "messages", "expected"),
    [
        ("", [USER], [USER]),
        ("a", [USER], [SystemMessage("a"), USER]),
        ("", [SystemMessage("b", name="n"), USER], [SystemMessage("b", name="n"), USER]),
        ("a", [SystemMessage("b"), USER], [SystemMessage("a\n\nb"), USER]),
        ("", [SystemMessage("b"), SystemMessage("c"), USER], [SystemMessage("b\n\nc"), USER]),
        ("a", [PARTS, USER], [SystemMessage("a\n\nb\n\nc"), USER]),
        # One that comes later belongs where it is.
        ("a", [USER, SystemMessage("b")], [SystemMessage("a"), USER, SystemMessage("b")]),
        ("a", [SystemMessage("b")], [SystemMessage("a\n\nb")]),
        ("", [], []),
    ],
)
def test_leading_instructions_are_one_message(
    prompt: str, messages: list[BaseMessage], expected: list[BaseMessage]
) -> None:
    assert with_system_prompt(prompt, messages) == expected
