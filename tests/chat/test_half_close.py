"""A client that closes its sending side before its answer counts as gone, behind HAProxy or not."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import pytest

from tests.provider import Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body
from tests.support.waiting import slack

# The promise is a second; the rest is for a busy machine.
STOPPED_SECONDS = 5.0


def half_closed(url: str, key: str, path: str, body: Any, *, delay_seconds: float = 0.0) -> bytes:
    """Send a request, close the sending side, and return all that comes until the end."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    address = httpx.URL(url)
    received = b""
    with socket.create_connection((address.host, address.port), timeout=20) as client:
        client.sendall(head.encode() + data)
        time.sleep(delay_seconds)
        client.shutdown(socket.SHUT_WR)
        while chunk := client.recv(65536):
            received += chunk
    return received


@pytest.fixture(params=["haproxy", "node"])
def url(request: pytest.FixtureRequest, stack: EmbeddedStack, node_urls: list[str]) -> str:
    """The address of HAProxy, or of a node."""
    return stack.url if request.param == "haproxy" else node_urls[0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"stream": True}),
        ("/v1/responses", {}),
        ("/v1/responses", {"stream": True}),
    ],
)
def test_a_model_call_of_a_half_closed_connection_is_cancelled(
    http: httpx.Client, provider: Provider, url: str, path: str, body: dict[str, Any]
) -> None:
    text = f"half closed {time.monotonic_ns()}"
    field = "messages" if path == "/v1/chat/completions" else "input"
    body = {"model": "provider-hang", field: [{"role": "user", "content": text}], **body}
    key = http.headers["Authorization"].split()[1]
    began = time.monotonic()
    answer = half_closed(url, key, path, body, delay_seconds=0.3)
    assert time.monotonic() - began < slack(STOPPED_SECONDS)
    assert b'"completed"' not in answer
    assert b"[DONE]" not in answer
    for call in provider.calls_of(text):
        assert provider.seconds_until_hung_up(call, since=began) < slack(STOPPED_SECONDS)


def test_a_request_that_is_closed_as_it_comes_is_answered_by_an_error_at_once(
    stack: EmbeddedStack, chains: None, url: str, marker: str
) -> None:
    body = chat_body("provider-slow-start", marker)
    answer = half_closed(url, stack.demo_key, "/v1/chat/completions", body)
    assert answer[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 499 ")
    assert b'"code"' in answer


def test_a_job_of_a_connection_that_is_closed_as_it_comes_is_never_lost_after_its_202(
    stack: EmbeddedStack, http: httpx.Client, url: str, marker: str
) -> None:
    body = {"chain": "mirror", "input": marker, "metadata": {"marker": marker}}
    answer = half_closed(url, stack.demo_key, "/v1/jobs", body)
    jobs = http.get("/v1/jobs?limit=100").json()["data"]
    made = [job for job in jobs if job["metadata"].get("marker") == marker]
    # HAProxy that sees the end a moment later has passed the job on, and answers 400 nevertheless.
    least = 1 if answer.startswith(b"HTTP/1.1 202 ") else 0
    assert least <= len(made) <= 1, answer[:200]
