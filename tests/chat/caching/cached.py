"""Completions that may come from the response cache, and how they came."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.calls import chat_body

CHAT = "/v1/chat/completions"


def ask(client: httpx.Client, model: str, text: str, **more: Any) -> httpx.Response:
    response = client.post(CHAT, json=chat_body(model, text, **more))
    assert response.status_code == 200, response.text
    return response


def status(response: httpx.Response) -> str:
    return response.headers["cache-status"]


def is_hit(response: httpx.Response) -> bool:
    return "; hit" in status(response)


def content(response: httpx.Response) -> str:
    return str(response.json()["choices"][0]["message"]["content"])
