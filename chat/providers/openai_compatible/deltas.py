"""The fields of an answer's message, or of a stream's delta, as LangChain has them."""

from __future__ import annotations

from typing import Any

MODEL_PROVIDER = "openai"
# Further members of a message that are passed on as they came.
PASSED_ON = ("refusal", "annotations", "audio")
REASONING_NAMES = ("reasoning_content", "reasoning")
REASONING = "reasoning_content"


def text_and_reasoning(content: Any) -> tuple[str, str]:
    """Return a content's text, and the reasoning that Mistral's models write in it as parts."""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        return "", ""
    texts, reasoning = [], []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, dict) and part.get("type") == "thinking":
            thinking, _ = text_and_reasoning(part.get("thinking"))
            reasoning.append(thinking)
    return "".join(texts), "".join(reasoning)


def additional_kwargs(message: dict[str, Any], reasoning: str) -> dict[str, Any]:
    """Return what a message has besides text and tool calls, in LangChain's `additional_kwargs`.

    Servers that send reasoning under both names send the same text twice.
    """
    found = {name: value for name in PASSED_ON if (value := message.get(name))}
    for name in REASONING_NAMES:
        value = message.get(name)
        if isinstance(value, str) and value:
            found[REASONING] = value
            return found
    if reasoning:
        found[REASONING] = reasoning
    return found
