"""Hits that are answered before gunicorn parses them: only the plainest requests, and no other."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, client_with

END = b"\r\n\r\n"


@pytest.fixture
def node(node_urls: list[str]) -> str:
    """One node's address, past HAProxy."""
    return urlsplit(node_urls[0]).netloc


@pytest.fixture
def body(stack: EmbeddedStack, chains: None, node: str, marker: str) -> bytes:
    """The body of a request whose answer the node has at hand."""
    text = json.dumps(chat_body("cached", marker)).encode()
    with client_with(stack, stack.demo_key) as client:
        for _ in range(3):
            answer = client.post(
                f"http://{node}/v1/chat/completions",
                content=text,
                headers={"Content-Type": "application/json"},
            )
    assert answer.headers["cache-status"].endswith("detail=near")
    return text


@pytest.fixture
def connection(node: str) -> Iterator[socket.socket]:
    host, port = node.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as made:
        yield made


def request(key: str, body: bytes, *more: str, line: str = "", length: str | None = None) -> bytes:
    """Return a request as wrk or HAProxy sends it, with further header lines."""
    head = [
        line or "POST /v1/chat/completions HTTP/1.1",
        "host: localhost",
        f"authorization: Bearer {key}",
        "content-type: application/json",
        *([] if length == "" else [f"content-length: {length or len(body)}"]),
        *more,
    ]
    return "\r\n".join(head).encode("latin-1") + END + body


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer with a length."""
    data = b""
    while END not in data:
        piece = connection.recv(65_536)
        assert piece, data
        data += piece
    head, _, rest = data.partition(END)
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (x.split(": ", 1) for x in lines[1:])}
    if "content-length" in headers:
        while len(rest) < int(headers["content-length"]):
            rest += connection.recv(65_536)
    return int(lines[0].split()[1]), headers, rest


def is_early(headers: dict[str, str]) -> bool:
    """Return whether an answer came from the near cache; gunicorn's own have it as well."""
    return "detail=near" in headers.get("cache-status", "")


def test_many_hits_on_one_connection_are_complete(
    connection: socket.socket, stack: EmbeddedStack, body: bytes
) -> None:
    ids = set()
    for _ in range(200):
        connection.sendall(request(stack.demo_key, body, "x-request-id: abc-1"))
        status, headers, answer = read_answer(connection)
        assert (status, is_early(headers)) == (200, True)
        assert headers["connection"] == "keep-alive"
        assert headers["x-request-id"] == "abc-1"
        assert headers["date"].endswith(" GMT")
        assert len(answer) == int(headers["content-length"])
        ids.add(json.loads(answer)["id"])
    assert len(ids) == 200
    # What comes next on the connection may be for gunicorn.
    connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
    status, _, answer = read_answer(connection)
    assert (status, json.loads(answer)) == (200, {"status": "ok"})
    connection.sendall(request(stack.demo_key, body))
    assert read_answer(connection)[0] == 200


def test_two_requests_at_once_get_two_answers(
    connection: socket.socket, stack: EmbeddedStack, body: bytes
) -> None:
    other = json.dumps(chat_body("no-such-chain")).encode()
    connection.sendall(request(stack.demo_key, body) + request(stack.demo_key, other))
    data = b""
    while data.count(b"HTTP/1.1 ") < 2 or b"model_not_found" not in data:
        piece = connection.recv(65_536)
        assert piece, data
        data += piece
    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"200", b"404"]


@pytest.mark.parametrize("cut", [10, 60, -5, -1])
def test_a_request_that_comes_in_pieces_is_read_to_its_end(
    connection: socket.socket, stack: EmbeddedStack, body: bytes, cut: int
) -> None:
    whole = request(stack.demo_key, body)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(whole[:cut])
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(10)
    connection.sendall(whole[cut:])
    assert read_answer(connection)[0] == 200


@pytest.mark.parametrize(
    ("more", "options", "status"),
    [
        (["content-length: 5"], {}, 400),
        (["transfer-encoding: chunked"], {}, 400),
        ([], {"length": ""}, 400),
        ([], {"length": "+5"}, 400),
        ([], {"length": "1e1"}, 400),
        (["x-bad\x00: y"], {}, 400),
        (["x-request-id: a\nx-b: c"], {}, 400),
        (["x request-id: a"], {}, 400),
        ([" folded: a"], {}, 400),
        ([], {"line": "POST  /v1/chat/completions HTTP/1.1"}, 400),
        ([], {"line": "PUT /v1/chat/completions HTTP/1.1"}, 405),
        (["authorization: Bearer hr_other"], {}, 401),
    ],
)
def test_a_request_that_is_not_plain_is_gunicorn_s_to_judge(
    *,
    connection: socket.socket,
    stack: EmbeddedStack,
    body: bytes,
    more: list[str],
    options: dict[str, str],
    status: int,
) -> None:
    connection.sendall(request(stack.demo_key, body, *more, **options))
    assert read_answer(connection)[0] == status


@pytest.mark.parametrize(
    "more",
    [
        ["cache-control: no-cache"],
        ["connection: close"],
        ["content_length: 5"],
        ["x-unknown: 1"],
        ["accept: text/event-stream"],
        ["x-stainless-lang: python", "user-agent: OpenAI/Python 3.0", "accept-encoding: gzip"],
    ],
)
def test_other_headers_are_obeyed_or_ignored_as_ever(
    connection: socket.socket, stack: EmbeddedStack, body: bytes, more: list[str]
) -> None:
    connection.sendall(request(stack.demo_key, body, *more))
    status, headers, answer = read_answer(connection)
    assert status == 200
    assert json.loads(answer)["object"] == "chat.completion"
    assert is_early(headers) == (more != ["cache-control: no-cache"])
    if more == ["connection: close"]:
        assert headers["connection"] == "close"
        assert connection.recv(1) == b""


def test_no_part_of_a_body_passes_for_a_path(
    connection: socket.socket, stack: EmbeddedStack, chains: None, marker: str
) -> None:
    value = {"messages": [{"type": "human", "content": marker}]}
    first, rest = '{"config":{},', f'"input":{json.dumps(value)}}}'
    invoke = "/chains/cached/invoke"
    whole = f"{first}\n{rest}".encode()
    for _ in range(2):
        connection.sendall(request(stack.demo_key, whole, line=f"POST {invoke} HTTP/1.1"))
        assert read_answer(connection)[0] == 200
    line = f"POST {invoke}%0A{quote(first)} HTTP/1.1"
    connection.sendall(request(stack.demo_key, rest.encode(), line=line))
    assert read_answer(connection)[0] == 404


def test_a_wrong_key_gets_a_401(
    connection: socket.socket, stack: EmbeddedStack, body: bytes
) -> None:
    for key in ("hr_wrong", stack.demo_key[:-1] + "x", ""):
        connection.sendall(request(key, body))
        status, _, answer = read_answer(connection)
        assert (status, "error" in json.loads(answer)) == (401, True)
    assert httpx.get(f"{stack.url}/health/live").status_code in (200, 404)
