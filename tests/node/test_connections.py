"""A chat holds no database connection while its model answers."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.conf import settings

from tests.support.waiting import slack

NODES = 2
# More than both nodes' pools have together.
CHATS = settings.DATABASE_POOL["max_size"] * NODES + 16


@pytest.mark.parametrize("path", ["completions", "conversations", "conversations with a key"])
def test_more_chats_than_connections_leave_the_database_to_others(http: httpx.Client, path: str):
    def chat(number: int) -> int:
        if path == "completions":
            body = {"model": "impatient", "messages": [{"role": "user", "content": "Hello"}]}
            return http.post("/v1/chat/completions", json=body).status_code
        made = http.post("/v1/conversations", json={"chain": "impatient"}).json()
        return http.post(
            f"/v1/conversations/{made['id']}/messages",
            json={"content": "Hello"},
            headers={"Idempotency-Key": made["id"]} if path.endswith("key") else {},
        ).status_code

    with ThreadPoolExecutor(CHATS) as pool:
        chats = [pool.submit(chat, number) for number in range(CHATS)]
        time.sleep(1.2)
        assert sum(not chat.done() for chat in chats) > settings.DATABASE_POOL["max_size"] * NODES
        for _ in range(4):
            started = time.monotonic()
            assert http.get("/v1/conversations").status_code == 200
            assert time.monotonic() - started < slack(settings.DATABASE_POOL["timeout"] / 2)
        # The model never answers, so the chain's two seconds run out.
        assert {chat.result() for chat in chats} == {504}
