"""A behaviour that does what it is asked for: it calls tools and fills schemas as a model would."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.provider.behaviours import behaviour
from tests.provider.exchange import Exchange


@behaviour
def standard(exchange: Exchange) -> None:
    """Call a tool that is offered, unless its result is there; else answer in the wanted format."""
    body = exchange.call.body
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    prompt = _text(body["messages"][-1])
    if tools and choice != "none" and body["messages"][-1]["role"] != "tool":
        wanted = choice["function"]["name"] if isinstance(choice, dict) else None
        tool = next(t["function"] for t in tools if wanted in (None, t["function"]["name"]))
        arguments = json.dumps(_value(tool["parameters"], prompt), ensure_ascii=False)
        call = {"id": "call_1", "function": {"name": tool["name"], "arguments": arguments}}
        exchange.answer(tool_calls=[{"type": "function", **call}], reason="tool_calls")
        return
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_schema":
        schema = response_format["json_schema"]["schema"]
        exchange.answer(json.dumps(_value(schema, prompt)))
    elif response_format.get("type") == "json_object":
        exchange.answer(json.dumps({"setup": "Why?", "punchline": "Because."}))
    else:
        exchange.answer(*_until(["Hello", ", ", "world", "!"], body.get("stop") or []))


def _until(words: list[str], stops: list[str] | str) -> list[str]:
    text = "".join(words)
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0]
    return [text] if text != "".join(words) else words


def _value(schema: dict[str, Any], prompt: str) -> Any:
    """Return a value of a schema; numbers and words in quotes come from the prompt."""
    if options := schema.get("enum"):
        return options[0]
    if options := schema.get("anyOf"):
        return _value(options[0], prompt)
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties", {})
        return {name: _value(member, prompt) for name, member in properties.items()}
    if kind == "array":
        return [_value(schema.get("items", {}), prompt)]
    if kind in ("integer", "number"):
        return int((re.findall(r"\d+", prompt) or ["3"])[0])
    if kind == "boolean":
        return True
    return next(iter(re.findall(r"['\"]([^'\"]+)['\"]", prompt)), "text")


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content or [])
