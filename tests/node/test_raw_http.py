"""Requests that no HTTP library would send: bytes to HAProxy, and through it to a node."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from urllib.parse import urlsplit

import pytest

from tests.provider import Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body

SILENCE_SECONDS = 3.0


class Sender:
    """Sends bytes to HAProxy."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self.address = urlsplit(stack.url)

    def __call__(self, data: bytes, *, is_all: bool = False) -> bytes:
        """Return what comes until the end, or until nothing more comes.

        `is_all` closes our side after the data: then nothing that is still wanted will come.
        """
        received = b""
        address = (self.address.hostname or "", self.address.port or 80)
        with socket.create_connection(address, SILENCE_SECONDS) as raw:
            raw.sendall(data)
            if is_all:
                raw.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError, TimeoutError):
                while chunk := raw.recv(65536):
                    received += chunk
        return received


@pytest.fixture(scope="module")
def send(stack: EmbeddedStack, chains: None) -> Sender:
    """A function that sends bytes and returns what comes back."""
    return Sender(stack)


def statuses(received: bytes) -> list[int]:
    """Return the status of each response in what was received."""
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]


def request(stack: EmbeddedStack, line: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a request with the demo key that ends its connection."""
    head = [
        line,
        "Host: localhost",
        f"Authorization: Bearer {stack.demo_key}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


# --- Addresses ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "target",
    [
        "/metrics",
        "/metrics/",
        "/metrics?x=1",
        "/%6detrics",
        "/%6D%65trics",
        "/v1/../metrics",
        "/v1/..%2fmetrics",
        "/v1/%2e%2e/metrics",
        "/./metrics",
        "//metrics",
        "///metrics",
        "/\\metrics",
        "/metrics%00",
        "/metrics;x",
        "/metrics#x",
        "http://localhost/metrics",
        "http://metrics/metrics",
        "/health/live",
        "/health/../health/live",
        "/%68ealth/live",
        "//health/live",
    ],
)
def test_no_way_of_writing_it_reaches_what_is_private(
    send: Sender, stack: EmbeddedStack, target: str
) -> None:
    received = send(request(stack, f"GET {target} HTTP/1.1"))
    assert statuses(received)[0] in (400, 404), received[:300]
    assert b"python_info" not in received
    assert b'"status"' not in received


@pytest.mark.parametrize(
    "target",
    [
        "//v1/models",
        "/v1//models",
        "/v1/../v1/models",
        "/v1/models%2f",
        "/v1%2fmodels",
        "/v1/models/..",
        "/v1/models/%2e%2e/models",
        "/v1/models;a=b",
        "/v1/models%20",
        "/v1/models%00",
        "/v1/models/%ff",
        "/V1/MODELS",
        "/v1/models/" + "a" * 1000,
    ],
)
def test_an_address_is_right_or_it_is_not(send: Sender, stack: EmbeddedStack, target: str) -> None:
    received = send(request(stack, f"GET {target} HTTP/1.1"))
    # An encoded slash is a slash to WSGI, as it always was.
    allowed = (200, 400, 404) if "%2f" in target else (400, 404)
    assert statuses(received)[0] in allowed, received[:300]


def test_an_over_long_address_is_a_414(send: Sender, stack: EmbeddedStack) -> None:
    received = send(request(stack, f"GET /v1/models?x={'a' * 9000} HTTP/1.1"))
    assert statuses(received) == [414]
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["type"]


def test_an_address_up_to_the_limit_is_read(send: Sender, stack: EmbeddedStack) -> None:
    received = send(request(stack, f"GET /v1/models?x={'a' * 7900} HTTP/1.1"))
    assert statuses(received) == [200]


# --- Headers ------------------------------------------------------------------------------------
def test_too_many_and_too_large_headers_are_a_431(send: Sender, stack: EmbeddedStack) -> None:
    many = [f"X-{number}: x" for number in range(150)]
    large = [f"X-Large: {'a' * 20_000}"]
    for headers in (many, large):
        received = send(request(stack, "GET /v1/models HTTP/1.1", *headers))
        assert statuses(received) == [431]
        assert b"headers_too_large" in received


@pytest.mark.parametrize("size", [40_000, 1_000_000])
def test_a_flood_of_headers_is_cut_off(send: Sender, stack: EmbeddedStack, size: int) -> None:
    try:
        received = send(request(stack, "GET /v1/models HTTP/1.1", f"X-Flood: {'a' * size}"))
    except (BrokenPipeError, ConnectionResetError):
        return
    assert statuses(received) in ([400], [431], [])


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost:99999", "local host", "[::1", "\x00", "a" * 300, "ü"]
)
def test_a_wrong_host_is_a_400_or_makes_no_difference(
    send: Sender, stack: EmbeddedStack, host: str
) -> None:
    for path in ("/v1/models", "/admin/login/", "/docs", "/v1/schema"):
        data = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            f"Authorization: Bearer {stack.demo_key}\r\n\r\n"
        ).encode("latin-1")
        received = send(data)
        assert statuses(received)[0] in (200, 400), received[:300]
        assert b"evil.example" not in received


def test_two_hosts_are_refused(send: Sender, stack: EmbeddedStack) -> None:
    received = send(request(stack, "GET /v1/models HTTP/1.1", "Host: evil.example"))
    assert statuses(received) == [400]


# --- Bodies -------------------------------------------------------------------------------------
def smuggled(provider: Provider) -> list[str]:
    """Return the texts of smuggled requests that reached the provider."""
    return [call.text for call in provider.calls_of("smuggled")]


def test_no_request_is_smuggled_inside_another(
    send: Sender, stack: EmbeddedStack, provider: Provider
) -> None:
    inner_body = json.dumps(chat_body("provider-hello", "smuggled")).encode()
    inner = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {stack.demo_key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(inner_body)}\r\n\r\n"
    ).encode() + inner_body
    json_type = "Content-Type: application/json"
    line = "POST /v1/conversations HTTP/1.1"
    hostile = [
        # A length and chunks, in both orders, and chunked in disguise.
        request(
            stack,
            line,
            json_type,
            f"Content-Length: {5 + len(inner)}",
            "Transfer-Encoding: chunked",
            body=b"0\r\n\r\n" + inner,
        ),
        request(
            stack,
            line,
            json_type,
            "Transfer-Encoding: chunked",
            "Content-Length: 4",
            body=b"0\r\n\r\n" + inner,
        ),
        request(
            stack,
            line,
            json_type,
            "Content-Length: 5",
            "Transfer-Encoding: xchunked",
            body=b"0\r\n\r\n" + inner,
        ),
        request(
            stack,
            line,
            json_type,
            "Content-Length: 5",
            "Transfer-Encoding : chunked",
            body=b"0\r\n\r\n" + inner,
        ),
        request(
            stack,
            line,
            json_type,
            "Transfer-Encoding: chunked, identity",
            body=b"0\r\n\r\n" + inner,
        ),
        request(stack, line, json_type, "Content-Length: 0", "Content-Length: 5", body=b"0\r\n\r\n")
        + inner,
        request(stack, line, json_type, "Content-Length: +5", body=b"0\r\n\r\n") + inner,
        request(stack, line, json_type, "Content-Length: 5 5", body=b"0\r\n\r\n") + inner,
        request(stack, line, json_type, "Content-Length: -1", body=b"") + inner,
    ]
    for data in hostile:
        received = send(data)
        # Refused, or one request of which the rest is no second one.
        assert len(statuses(received)) <= 1, received[:500]
        assert all(status in (400, 413, 415, 422, 501) for status in statuses(received))
    assert smuggled(provider) == []


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"5\r\nab",
        b"-1\r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\nabc",
    ],
)
def test_broken_chunks_are_no_500(send: Sender, stack: EmbeddedStack, chunks: bytes) -> None:
    received = send(
        request(
            stack,
            "POST /v1/chat/completions HTTP/1.1",
            "Content-Type: application/json",
            "Transfer-Encoding: chunked",
            body=chunks,
        ),
        is_all=True,
    )
    assert all(status < 500 for status in statuses(received)), received[:300]


def test_a_body_shorter_than_its_length_is_no_500(send: Sender, stack: EmbeddedStack) -> None:
    received = send(
        request(
            stack,
            "POST /v1/chat/completions HTTP/1.1",
            "Content-Type: application/json",
            "Content-Length: 500",
            body=b'{"model"',
        ),
        is_all=True,
    )
    assert all(status < 500 for status in statuses(received)), received[:300]


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET /v1/models\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"GET  /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"TRACE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_hardly_http_is_refused(send: Sender, data: bytes) -> None:
    assert all(400 <= status < 500 for status in statuses(send(data, is_all=True)))
