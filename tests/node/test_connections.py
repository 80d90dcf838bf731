"""A chat holds no database connection while its model answers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings

from tests.support.calls import chat_body
from tests.support.waiting import eventually

if TYPE_CHECKING:
    import httpx

    from tests.provider import Provider

NODES = 2
# More than both nodes' pools have together.
CHATS = settings.DATABASE_POOL["max_size"] * NODES + 16
CHAIN = "gated"
# A node that cannot begin its requests in time, and the load balancer in front of such nodes.
OVERLOADED = {"overloaded", "service_unavailable"}


def post(
    http: httpx.Client, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> httpx.Response:
    """Send a request again for as long as nodes are overloaded.

    All chats come at once, and on a slow machine that is more than the nodes begin in time.
    """
    while True:
        answer = http.post(path, json=body, headers=headers)
        if answer.status_code != 503 or answer.json()["error"]["code"] not in OVERLOADED:
            return answer
        time.sleep(float(answer.headers["retry-after"]))


@pytest.mark.parametrize("path", ["completions", "conversations", "conversations with a key"])
def test_more_chats_than_connections_leave_the_database_to_others(
    http: httpx.Client, provider: Provider, marker: str, path: str
) -> None:
    def chat() -> httpx.Response:
        if path == "completions":
            return post(http, "/v1/chat/completions", chat_body(CHAIN, marker))
        made = post(http, "/v1/conversations", {"chain": CHAIN})
        assert made.status_code == 201, made.text
        conversation = made.json()["id"]
        return post(
            http,
            f"/v1/conversations/{conversation}/messages",
            {"content": marker},
            {"Idempotency-Key": conversation} if path.endswith("key") else {},
        )

    def ended() -> list[BaseException | str]:
        return [chat.exception() or chat.result().text for chat in chats if chat.done()]

    with ThreadPoolExecutor(CHATS) as pool, provider.closed_gate():
        chats = [pool.submit(chat) for _ in range(CHATS)]
        eventually(
            lambda: len(provider.calls_of(marker)) == CHATS,
            seconds=30,
            what=lambda: f"all chats wait for their model; ended are {ended()}",
        )
        for _ in range(4):
            # From the primary's pool, and from a replica's.
            made = post(http, "/v1/conversations", {"chain": CHAIN})
            assert made.status_code == 201, made.text
            listed = http.get("/v1/conversations")
            assert listed.status_code == 200, listed.text
        assert ended() == []
    assert [chat.result().text for chat in chats if chat.result().is_error] == []
