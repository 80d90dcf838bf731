"""A client that disconnects stops its model call and frees its slot; a silent stream beats."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.provider import Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, read_events
from tests.support.waiting import slack

# The promise is a second; half of one more is for a busy machine.
STOPPED_SECONDS = 1.5


class RawClient:
    """One connection to HAProxy that a test can close at any moment."""

    def __init__(self, stack: EmbeddedStack, path: str, body: dict[str, Any], key: str) -> None:
        address = urlsplit(stack.url)
        assert address.hostname is not None
        data = json.dumps(body).encode()
        self.socket = socket.create_connection((address.hostname, address.port or 80), timeout=10)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        self.socket.sendall(head.encode() + data)

    def read_until(self, text: bytes) -> bytes:
        """Return what came up to and with some text."""
        received = b""
        while text not in received:
            data = self.socket.recv(4096)
            assert data, f"closed before {text!r}: {received!r}"
            received += data
        return received

    def leave(self) -> float:
        """Close the connection; return the moment."""
        self.socket.close()
        return time.monotonic()


@pytest.fixture
def call(stack: EmbeddedStack, chains: None) -> Callable[..., RawClient]:
    """Return a function that posts a body and hands over the connection."""

    def post(path: str, body: dict[str, Any], key: str = stack.demo_key) -> RawClient:
        return RawClient(stack, path, body, key)

    return post


@pytest.fixture(scope="module")
def single_key(keys: dict[str, dict[str, str]]) -> str:
    """A key that may have one call at a time."""
    return keys["single"]["key"]


@pytest.fixture(scope="module")
def single(make_http: Callable[[str], httpx.Client], chains: None) -> httpx.Client:
    """An HTTP client with that key."""
    return make_http("single")


def test_leaving_a_unary_answer_stops_the_upstream_call(
    call: Callable[..., RawClient], provider: Provider, marker: str
) -> None:
    client = call("/v1/chat/completions", chat_body("provider-hang", marker))
    upstream = provider.wait_for_call(marker)
    left_at = client.leave()
    assert provider.seconds_until_hung_up(upstream, since=left_at) < slack(STOPPED_SECONDS)


def test_leaving_a_stream_before_its_first_token_stops_the_upstream_call(
    call: Callable[..., RawClient], provider: Provider, marker: str
) -> None:
    client = call("/v1/chat/completions", chat_body("provider-hang", marker, stream=True))
    upstream = provider.wait_for_call(marker)
    left_at = client.leave()
    assert provider.seconds_until_hung_up(upstream, since=left_at) < slack(STOPPED_SECONDS)


def test_leaving_a_stream_that_only_beats_stops_the_upstream_call(
    call: Callable[..., RawClient], provider: Provider, marker: str
) -> None:
    client = call("/v1/chat/completions", chat_body("provider-hang", marker, stream=True))
    client.read_until(b": heartbeat")
    upstream = provider.wait_for_call(marker)
    left_at = client.leave()
    assert provider.seconds_until_hung_up(upstream, since=left_at) < slack(STOPPED_SECONDS)


def test_leaving_a_stream_midway_stops_the_upstream_call(
    call: Callable[..., RawClient], provider: Provider, marker: str
) -> None:
    client = call(
        "/v1/chat/completions", chat_body("provider-stall-mid-stream", marker, stream=True)
    )
    client.read_until(b"three ")
    upstream = provider.wait_for_call(marker)
    left_at = client.leave()
    assert provider.seconds_until_hung_up(upstream, since=left_at) < slack(STOPPED_SECONDS)


def test_leaving_a_stream_that_is_flowing_stops_the_upstream_call(
    call: Callable[..., RawClient], provider: Provider, marker: str
) -> None:
    client = call("/v1/chat/completions", chat_body("provider-slow-stream", marker, stream=True))
    client.read_until(b"two ")
    upstream = provider.wait_for_call(marker)
    left_at = client.leave()
    assert provider.seconds_until_hung_up(upstream, since=left_at) < slack(STOPPED_SECONDS)


@pytest.mark.parametrize("path", ["invoke", "stream"])
def test_leaving_a_langserve_call_stops_the_upstream_call(
    call: Callable[..., RawClient], provider: Provider, marker: str, path: str
) -> None:
    client = call(f"/chains/provider-hang/{path}", {"input": marker})
    upstream = provider.wait_for_call(marker)
    left_at = client.leave()
    assert provider.seconds_until_hung_up(upstream, since=left_at) < slack(STOPPED_SECONDS)


def test_leaving_stops_both_calls_of_a_parallel_chain(
    call: Callable[..., RawClient], provider: Provider, marker: str
) -> None:
    client = call("/v1/chat/completions", chat_body("pair", marker))
    provider.wait_for_call(marker)
    time.sleep(0.2)
    left_at = client.leave()
    upstream = provider.calls_of(marker)
    assert len(upstream) == 2
    for each in upstream:
        assert provider.seconds_until_hung_up(each, since=left_at) < slack(STOPPED_SECONDS)


def test_a_chain_that_catches_every_error_is_stopped_all_the_same(
    call: Callable[..., RawClient], provider: Provider, marker: str
) -> None:
    client = call("/v1/chat/completions", chat_body("cautious", marker))
    upstream = provider.wait_for_call(marker)
    left_at = client.leave()
    assert provider.seconds_until_hung_up(upstream, since=left_at) < slack(STOPPED_SECONDS)
    time.sleep(0.5)
    assert len(provider.calls_of(marker)) == 1


@pytest.mark.parametrize("is_stream", [False, True])
def test_leaving_frees_the_keys_place(
    *,
    call: Callable[..., RawClient],
    single: httpx.Client,
    single_key: str,
    provider: Provider,
    marker: str,
    is_stream: bool,
) -> None:
    client = call(
        "/v1/chat/completions", chat_body("provider-hang", marker, stream=is_stream), single_key
    )
    provider.wait_for_call(marker)
    refused = single.post("/v1/chat/completions", json=chat_body("provider-hello"))
    assert refused.status_code == 429
    left_at = client.leave()
    while (
        response := single.post("/v1/chat/completions", json=chat_body("provider-hello"))
    ).status_code == 429:
        assert time.monotonic() - left_at < slack(STOPPED_SECONDS)
        time.sleep(0.02)
    assert response.status_code == 200


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_key_with_one_place_may_call_again_at_once(single: httpx.Client, is_stream: bool) -> None:
    for _ in range(15):
        body = chat_body("provider-hello", stream=is_stream)
        assert single.post("/v1/chat/completions", json=body).status_code == 200


def test_a_failed_call_frees_the_keys_place_too(single: httpx.Client) -> None:
    for model in ("broken", "provider-leaky-401", "provider-error-mid-stream", "no-such-model"):
        for is_stream in (False, True):
            body = chat_body(model, stream=is_stream)
            assert single.post("/v1/chat/completions", json=body).status_code != 429
    assert single.post("/v1/chat/completions", content=b"{").status_code != 429
    response = single.post("/v1/chat/completions", json=chat_body("provider-hello"))
    assert response.status_code == 200


def test_a_silent_stream_beats_until_its_first_token(http: httpx.Client) -> None:
    body = chat_body("provider-slow-start", stream=True)
    times = []
    started = time.monotonic()
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        begun_after = time.monotonic() - started
        names = []
        for name, _ in read_events(response):
            names.append(name)
            times.append(time.monotonic() - started)
    # The status is held back for the first chunk, but not for longer than a heartbeat.
    assert 0.9 < begun_after < 2.0
    assert names[:2] == [":", ":"]
    assert ":" not in names[2:]
    assert times[2] > 2.4


def test_the_status_waits_for_the_first_chunk(http: httpx.Client) -> None:
    body = chat_body("nap", stream=True)
    started = time.monotonic()
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert time.monotonic() - started > 0.45
        names = [name for name, _ in read_events(response)]
    assert ":" not in names
