"""No request holds a database connection while it waits."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.conf import settings

from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, client_with
from tests.support.waiting import eventually, slack

NODES = 2
# More than both nodes' pools of the primary have together.
FOLLOWERS = settings.DATABASE_POOL["max_size"] * NODES + 8
EACH = 3
LATER = {"run_at": "2190-01-01T00:00:00Z"}
BUSY = re.compile(r'^headrace_database_connections_busy\{server="(.+)"\} (.+)$', re.MULTILINE)
IDLE_HOLDS = re.compile(r"^headrace_database_idle_holds_total\{.*\} (.+)$", re.MULTILINE)

Request = tuple[str, str, dict[str, Any] | None]


def waiting_job(http: httpx.Client) -> str:
    """Post a job that does not run, and return its id; a busy machine may refuse it first."""
    body = {"chain": "provider-hello", **INVOKE, **LATER}
    deadline = time.monotonic() + slack(10)
    while True:
        made = http.post("/v1/jobs", json=body)
        if made.status_code == 202:
            return str(made.json()["id"])
        assert made.json()["error"]["code"] == "overloaded", made.text
        assert time.monotonic() < deadline
        time.sleep(0.2)


def conversation(http: httpx.Client, chain: str) -> str:
    return f"/v1/conversations/{http.post('/v1/conversations', json={'chain': chain}).json()['id']}"


def response(**more: Any) -> dict[str, Any]:
    return {"model": "impatient", "input": "Hello", **more}


MESSAGE = {"content": "Hello"}
STREAMED = {"content": "Hello", "stream": True}
INVOKE = {"input": {"messages": [{"type": "human", "content": "Hello"}]}}

# Requests that take long, each for a reason of its own.
WAITS: dict[str, Callable[[httpx.Client], Request]] = {
    "completion": lambda _: ("POST", "/v1/chat/completions", chat_body("impatient")),
    "completion stream": lambda _: (
        "POST",
        "/v1/chat/completions",
        chat_body("impatient-stream", stream=True),
    ),
    # One calls and the others wait for its answer.
    "cached completions": lambda _: ("POST", "/v1/chat/completions", chat_body("cached-hang")),
    "cached streams": lambda _: (
        "POST",
        "/v1/chat/completions",
        chat_body("cached-hang", stream=True),
    ),
    "conversation": lambda http: ("POST", f"{conversation(http, 'impatient')}/messages", MESSAGE),
    "conversation stream": lambda http: (
        "POST",
        f"{conversation(http, 'impatient-stream')}/messages",
        STREAMED,
    ),
    "invoke": lambda _: ("POST", "/chains/impatient/invoke", INVOKE),
    "batch": lambda _: ("POST", "/chains/impatient/batch", {"inputs": [INVOKE["input"]] * 2}),
    "langserve stream": lambda _: ("POST", "/chains/impatient-stream/stream", INVOKE),
    "response": lambda _: ("POST", "/v1/responses", response()),
    "response stream": lambda _: ("POST", "/v1/responses", response(stream=True)),
    "job events": lambda http: ("GET", f"/v1/jobs/{waiting_job(http)}/events", None),
    "response events": lambda http: (
        "GET",
        f"/v1/responses/{http.post('/v1/responses', json=response(background=True)).json()['id']}"
        "?stream=true",
        None,
    ),
}


@contextlib.contextmanager
def under_way(
    stack: EmbeddedStack, requests: list[Request], *, key: str = ""
) -> Iterator[Callable[[], list[str | int]]]:
    """Have requests under way, and give a look at those that are over by then."""
    ended: list[str | int] = []
    with contextlib.ExitStack() as clients, ThreadPoolExecutor(len(requests)) as threads:

        def send(request: Request, client: httpx.Client) -> None:
            method, path, body = request
            try:
                with client.stream(method, path, json=body) as answer:
                    for _ in answer.iter_raw():
                        pass
                    ended.append(answer.status_code)
            except httpx.HTTPError as error:
                ended.append(type(error).__name__)

        connections = [
            clients.enter_context(client_with(stack, key or stack.demo_key)) for _ in requests
        ]
        for request, client in zip(requests, connections, strict=True):
            threads.submit(send, request, client)
        try:
            yield lambda: list(ended)
        finally:
            for client in connections:
                # A stream that is being read by another thread ends with its socket.
                with contextlib.suppress(Exception):
                    # httpx has no public way to its sockets.
                    pool: Any = client._transport._pool  # type: ignore[attr-defined]  # noqa: SLF001
                    for sent in pool.connections:
                        stream = sent._connection._network_stream  # noqa: SLF001
                        stream.get_extra_info("socket").shutdown(2)


def busy(node_urls: list[str]) -> dict[str, float]:
    """Return the connections that each node holds, by node and server; zeros left out."""
    return {
        f"{url} {server}": float(count)
        for url in node_urls
        for server, count in BUSY.findall(httpx.get(f"{url}/metrics").text)
        if float(count)
    }


def idle_holds(node_urls: list[str]) -> float:
    return sum(
        float(count)
        for url in node_urls
        for count in IDLE_HOLDS.findall(httpx.get(f"{url}/metrics").text)
    )


@pytest.mark.parametrize("kind", WAITS)
def test_a_request_that_waits_holds_no_connection(
    stack: EmbeddedStack, http: httpx.Client, node_urls: list[str], kind: str
) -> None:
    requests = [WAITS[kind](http) for _ in range(EACH)]
    before = idle_holds(node_urls)
    with under_way(stack, requests) as ended:
        time.sleep(0.7)
        looks = []
        for _ in range(8):
            looks.append(busy(node_urls))
            if not looks[-1]:
                break
            time.sleep(0.05)
        assert ended() == [], "they did not wait"
    # What the nodes do by themselves takes a moment each.
    assert looks[-1] == {}, looks
    assert idle_holds(node_urls) == before


def test_many_who_follow_jobs_leave_the_database_to_others(
    stack: EmbeddedStack, http: httpx.Client
) -> None:
    path = f"/v1/jobs/{waiting_job(http)}/events"
    with under_way(stack, [("GET", path, None)] * FOLLOWERS) as ended:
        time.sleep(1.5)
        for _ in range(4):
            # It is refused with `database_unavailable` where no connection is free.
            waiting_job(http)
        assert ended() == []


def test_many_streamed_answers_of_conversations_leave_the_database_to_others(
    stack: EmbeddedStack, http: httpx.Client
) -> None:
    requests: list[Request] = [
        ("POST", f"{conversation(http, 'impatient-stream')}/messages", STREAMED)
        for _ in range(FOLLOWERS)
    ]
    with under_way(stack, requests) as ended:
        time.sleep(1.0)
        waiting_job(http)
        eventually(lambda: len(ended()) >= FOLLOWERS, seconds=30, what="all streams end")
        # Their chain's time runs out inside of the stream.
        assert ended() == [201] * FOLLOWERS
