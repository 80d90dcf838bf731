"""A job's input as its chain takes it."""

from __future__ import annotations

from typing import Any

from chat.chains.registry import BuiltChain
from chat.inputs.contract import contract_of

# OpenAI's roles, as LangChain's messages are tagged.
TYPE_BY_ROLE = {
    "user": "human",
    "assistant": "ai",
    "system": "system",
    "developer": "system",
    "tool": "tool",
}


def read_input(chain: BuiltChain, raw: Any) -> Any:
    """Return the chain's input from JSON; raises InvalidRequest (422) that names the field.

    Messages may be tagged by OpenAI's `role` or by LangChain's `type`.
    """
    if isinstance(raw, dict) and isinstance(raw.get("messages"), list):
        raw = {**raw, "messages": [_by_type(message) for message in raw["messages"]]}
    return contract_of(chain).read_input(raw, {}, param="input")


def _by_type(message: Any) -> Any:
    if not isinstance(message, dict) or "type" in message:
        return message
    kind = TYPE_BY_ROLE.get(str(message.get("role")))
    if kind is None:
        return message
    others = {name: value for name, value in message.items() if name != "role"}
    return {"type": kind, **others}


def has_nul(value: Any) -> bool:
    """Return whether a JSON value, whose depth is bounded, contains a NUL."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(map(has_nul, value))
    if isinstance(value, dict):
        return any(has_nul(key) or has_nul(item) for key, item in value.items())
    return False
