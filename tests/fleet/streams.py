"""The last events of streams that one node serves directly."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.calls import chat_body, read_events

if TYPE_CHECKING:
    from tests.support.own_stack import OwnStack

SECONDS = "60"
QUESTION = {"messages": [{"role": "user", "content": SECONDS}]}


class DirectClient:
    """Requests to a node that take a minute: streams of every API, and a unary one."""

    def __init__(self, stack: OwnStack, node: str) -> None:
        headers = {"Authorization": f"Bearer {stack.demo_key}"}
        base_url = f"http://{stack.part(node)['address']}"
        self._client = httpx.Client(base_url=base_url, headers=headers, timeout=120)
        self._threads = ThreadPoolExecutor(8)

    def ask(self) -> dict[str, Future[Any]]:
        """Begin all of them; each ends with its last event's name and data."""
        conversation = self._post("/v1/conversations", {"chain": "ticks"})["id"]
        job = self._post("/v1/jobs", {"chain": "ticks", "input": QUESTION})["id"]
        asked = {
            "completions": self._stream(
                "/v1/chat/completions", chat_body("ticks", SECONDS, stream=True)
            ),
            "langserve": self._stream("/chains/ticks/stream", {"input": QUESTION}),
            "conversations": self._stream(
                f"/v1/conversations/{conversation}/messages", {"content": SECONDS, "stream": True}
            ),
            "responses": self._stream(
                "/v1/responses", {"model": "ticks", "input": SECONDS, "stream": True}
            ),
            "jobs": self._threads.submit(self._last, "GET", f"/v1/jobs/{job}/events", None),
        }
        body = chat_body("ticks", SECONDS)
        asked["whole"] = self._threads.submit(self._client.post, "/v1/chat/completions", json=body)
        return asked

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self._client.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def _stream(self, path: str, body: dict[str, Any]) -> Future[Any]:
        return self._threads.submit(self._last, "POST", path, body)

    def _last(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        last = None
        with self._client.stream(method, path, json=body) as answer:
            assert answer.status_code < 300, answer.read()
            for event in read_events(answer):
                last = event
        return last
