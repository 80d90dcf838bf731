"""Conversations for tests: start one, send messages, read its history."""

from __future__ import annotations

from typing import Any

import httpx


def start(http: httpx.Client, chain: str = "provider-echo", **more: Any) -> str:
    """Start a conversation; return its id."""
    response = http.post("/v1/conversations", json={"chain": chain, **more})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def say(http: httpx.Client, conversation: str, content: str, **more: Any) -> httpx.Response:
    """Post a message."""
    path = f"/v1/conversations/{conversation}/messages"
    return http.post(path, json={"content": content, **more})


def history(http: httpx.Client, conversation: str, **query: Any) -> list[dict[str, Any]]:
    """Return a conversation's messages."""
    response = http.get(f"/v1/conversations/{conversation}/messages", params=query)
    assert response.status_code == 200
    data: list[dict[str, Any]] = response.json()["data"]
    return data
