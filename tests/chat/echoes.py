"""The request that reached the provider, which sends it back, by OpenAI's SDK."""

from __future__ import annotations

import json
from typing import Any

import openai

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
USER: Any = [{"role": "user", "content": "Hello"}]


def echoed(sdk: openai.OpenAI, model: str = "provider-echo", **request: Any) -> dict[str, Any]:
    """Return what reached the provider."""
    request.setdefault("messages", USER)
    completion = sdk.chat.completions.create(model=model, **request)
    body: dict[str, Any] = json.loads(completion.choices[0].message.content or "")
    return body
