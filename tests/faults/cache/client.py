"""A client with a persistent connection, and the answers that it gets."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any

from tests.support.calls import chat_body

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Answer:
    """An answer, and how long it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    asked_at: float
    seconds: float

    @property
    def cache_status(self) -> str:
        return self.headers.get("cache-status", "")

    @property
    def is_hit(self) -> bool:
        return "; hit" in self.cache_status

    @property
    def content(self) -> str:
        return str(json.loads(self.body)["choices"][0]["message"]["content"])

    @property
    def echoed(self) -> str:
        """The provider's own count of its requests."""
        return str(json.loads(self.content)["messages"][-1]["content"])


class Client:
    """One persistent connection; lighter than httpx, so that nodes are measured and not it."""

    def __init__(self, address: str, key: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=30)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(self, model: str, text: str, **more: Any) -> Answer:
        return self.send("POST", CHAT, json.dumps(chat_body(model, text, **more)).encode())

    def send(self, method: str, path: str, body: bytes | None = None) -> Answer:
        started = time.monotonic()
        try:
            self._connection.request(method, path, body, self._headers)
            response = self._connection.getresponse()
            data = response.read()
        except BaseException:
            self.close()
            raise
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, data, started, time.monotonic() - started)

    def close(self) -> None:
        self._connection.close()
