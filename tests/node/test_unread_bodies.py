"""A request without a valid key gets 401 before its body is read."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

import pytest

from tests.stack_plugin import EmbeddedStack
from tests.support.lone_proxy import assert_raw_envelope
from tests.support.waiting import slack

JSON = "application/json"
FORM = "multipart/form-data; boundary=x"
# The stack's BODY_TIMEOUT_SECONDS is 4, and HAProxy waits 10 s for a body.
SECONDS = 3.0


def answer_before_body(url: str, path: str, kind: str, *headers: str) -> tuple[bytes, float]:
    """Send a head without its body; return what comes back, and after how many seconds."""
    address = urlsplit(url)
    assert address.hostname is not None
    head = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {kind}",
        "Content-Length: 1000",
        *headers,
    ]
    with socket.create_connection((address.hostname, address.port or 80), timeout=20) as client:
        began = time.monotonic()
        client.sendall("\r\n".join([*head, "", ""]).encode())
        reply = client.recv(65_536)
    return reply, time.monotonic() - began


@pytest.mark.parametrize("through", ["node", "haproxy"])
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", JSON),
        ("/chains/assistant/invoke", JSON),
        ("/chains/assistant/batch", JSON),
        ("/v1/conversations", JSON),
        ("/v1/jobs", JSON),
        ("/v1/jobs", FORM),
        ("/v1/responses", JSON),
    ],
)
def test_a_request_without_a_key_is_answered_before_its_body(
    stack: EmbeddedStack, node_urls: list[str], path: str, kind: str, through: str
) -> None:
    url = stack.url if through == "haproxy" else node_urls[0]
    reply, seconds = answer_before_body(url, path, kind)

    assert_raw_envelope(reply, 401, "missing_api_key")
    assert seconds < slack(SECONDS)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chains/assistant/invoke", "/v1/jobs"])
def test_so_is_one_with_a_wrong_key(node_urls: list[str], path: str) -> None:
    reply, seconds = answer_before_body(node_urls[0], path, JSON, "Authorization: Bearer hr_wrong")

    assert_raw_envelope(reply, 401, "invalid_api_key")
    assert seconds < slack(SECONDS)


def test_with_a_key_haproxy_waits_for_the_body_before_a_node_has_to(stack: EmbeddedStack) -> None:
    key = f"Authorization: Bearer {stack.demo_key}"
    reply, seconds = answer_before_body(stack.url, "/v1/chat/completions", JSON, key)

    assert_raw_envelope(reply, 408, "request_timeout")
    assert seconds > SECONDS
