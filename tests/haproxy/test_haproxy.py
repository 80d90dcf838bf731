"""haproxy.cfg and the Runtime API's client, on a real HAProxy with nodes that are not Headrace."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from fleet.cluster import proxy
from fleet.haproxy import (
    HAProxyRefused,
    HAProxyUnavailable,
    RuntimeApi,
    ServerState,
)
from tests.support.lone_proxy import LoneProxy, assert_envelope, assert_raw_envelope
from tests.support.waiting import eventually

LIMIT_BYTES = 4 * 1024 * 1024
MEDIA_LIMIT_BYTES = 20 * 1024 * 1024


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"PROXY_NODES": "localhost:8000", "PROXY_STATE_FILE": "", "PROXY_SOCKET": ""},
        {"PROXY_TRUSTED_ADDRESSES": "10.0.0.1 fd00::/8", "PROXY_ADMIN_ADDRESSES": "10.0.0.0/8"},
        {"PROXY_CERTIFICATE": "", "PROXY_NODES": "", "PROXY_TRUSTED_ADDRESSES": ""},
    ],
    ids=["slots", "name", "addresses", "empty"],
)
def test_the_configuration_is_valid_without_a_warning(lone: LoneProxy, env: dict[str, str]) -> None:
    lone.api.save_state()
    checked = check(lone, {**lone.env, **env})

    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


def test_the_configuration_needs_no_variable_at_all(lone: LoneProxy) -> None:
    checked = check(lone, {})

    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


@pytest.mark.parametrize("path", sorted(proxy.CONFIG_DIR.glob("errors/*.http")), ids=str)
def test_every_error_page_is_a_complete_response_in_the_envelope(path: Path) -> None:
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])

    assert lines[0].startswith(f"HTTP/1.1 {path.stem} ")
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(body))
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert ("retry-after" in headers) == (path.stem in {"429", "502", "503"})


def test_without_a_node_the_answer_is_503_and_when_to_come_back(lone: LoneProxy) -> None:
    response = httpx.get(f"{lone.url}/v1/models")

    assert_envelope(response, 503, "service_unavailable")
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "path", ["/metrics", "/health/live", "/%6detrics", "/metrics/", "/metrics?"]
)
def test_what_is_private_is_not_there_for_the_public(lone: LoneProxy, path: str) -> None:
    lone.add_node()
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    assert lone.raw(head.encode()).startswith(b"HTTP/1.1 404 ")
    assert httpx.get(f"{lone.url}/health/ready").status_code == 200


def test_a_body_over_the_limit_is_refused_before_it_is_sent(lone: LoneProxy) -> None:
    node = lone.add_node()

    assert httpx.post(f"{lone.url}/echo", content=b"x" * LIMIT_BYTES).json()["node"] == node.name
    answer = lone.raw(
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % (LIMIT_BYTES + 1)
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code": "body_too_large"' in answer


@pytest.mark.parametrize(
    ("method", "path", "size", "is_refused"),
    [
        ("POST", "/v1/chat/completions", MEDIA_LIMIT_BYTES, False),
        ("POST", "/v1/chat/completions", MEDIA_LIMIT_BYTES + 1, True),
        ("PUT", "/v1/chat/completions", LIMIT_BYTES + 1, True),
        ("POST", "/v1/chat/completions/", LIMIT_BYTES + 1, True),
        ("POST", "/v1/conversations", LIMIT_BYTES + 1, True),
    ],
)
def test_a_body_with_images_may_be_larger(
    lone: LoneProxy, method: str, path: str, size: int, is_refused: bool
) -> None:
    lone.add_node()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    answer = lone.raw(f"{head}Authorization: x\r\nContent-Length: {size}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413 " if is_refused else b"HTTP/1.1 100 ")


@pytest.mark.parametrize("keeps_alive", [True, False])
def test_a_client_that_sends_all_of_a_large_body_reads_the_refusal(
    lone: LoneProxy, keeps_alive: bool
) -> None:
    lone.add_node()
    body = b"x" * (20 << 20)
    head = (
        f"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        f"Connection: {'keep-alive' if keeps_alive else 'close'}\r\n\r\n"
    )
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", httpx.URL(lone.url).port), 20) as client:
            client.sendall(head.encode() + body)
            answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"code": "body_too_large"' in answer


def test_the_connection_of_a_body_beyond_all_reason_is_closed(
    make_proxy: Callable[..., LoneProxy],
) -> None:
    proxy = make_proxy(PROXY_DRAIN_BYTES="8388608")
    proxy.add_node()
    answer = proxy.raw(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8388609\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code": "body_too_large"' in answer


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        ("GET / HTTP/1.1\r\n" + "X: y\r\n" * 101, 431, "headers_too_large"),
        ("GET / HTTP/1.1\r\nX: " + "x" * 17_000 + "\r\n", 431, "headers_too_large"),
        ("GET /" + "x" * 9_000 + " HTTP/1.1\r\n", 414, "uri_too_long"),
        ("TRACE / HTTP/1.1\r\n", 405, "method_not_allowed"),
        ("CONNECT localhost:1 HTTP/1.1\r\n", 405, "method_not_allowed"),
    ],
    ids=["headers", "header", "uri", "trace", "connect"],
)
def test_what_is_too_much_or_not_allowed_gets_a_json_error(
    lone: LoneProxy, head: str, status: int, code: str
) -> None:
    lone.add_node()
    host = "localhost:1" if head.startswith("CONNECT") else "localhost"
    answer = lone.raw(f"{head}Host: {host}\r\nConnection: close\r\n\r\n".encode())

    assert_raw_envelope(answer, status, code)


def test_headers_within_the_limits_pass(lone: LoneProxy) -> None:
    lone.add_node()
    headers = {**{f"x-{number}": "y" for number in range(80)}, "x-long": "x" * 12_000}

    assert httpx.get(f"{lone.url}/echo", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "request_head",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    ],
    ids=["garbage", "length", "lengths", "name", "header", "headers"],
)
def test_what_is_no_http_is_refused_and_never_reaches_a_node(
    lone: LoneProxy, request_head: bytes
) -> None:
    node = lone.add_node()

    assert lone.raw(request_head).startswith(b"HTTP/1.1 400 ")
    assert not node.requests


def test_only_haproxy_sets_the_clients_address(lone: LoneProxy) -> None:
    lone.add_node()
    lies = {
        "forwarded": "for=1.2.3.4",
        "x-forwarded-for": "1.2.3.4",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil.example",
        "x-forwarded-ssl": "on",
        "x-real-ip": "1.2.3.4",
    }

    headers = httpx.get(f"{lone.url}/echo", headers=lies).json()["headers"]

    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert not {"forwarded", "x-forwarded-host", "x-forwarded-ssl", "x-real-ip"} & set(headers)


def test_a_client_that_expects_100_continue_gets_it(lone: LoneProxy) -> None:
    node = lone.add_node()
    with lone.connect() as connection:
        connection.sendall(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Length: 4\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        assert not node.requests
        connection.sendall(b"body")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("expectation", ["100-Continue", "a-miracle"])
def test_no_expectation_reaches_a_node(lone: LoneProxy, expectation: str) -> None:
    lone.add_node()
    answer = httpx.post(f"{lone.url}/echo", headers={"expect": expectation}, content=b"body")

    assert answer.status_code == 200
    assert "expect" not in answer.json()["headers"]


def test_a_request_has_one_id_at_the_node_and_in_the_answer(lone: LoneProxy) -> None:
    lone.add_node()

    made = httpx.get(f"{lone.url}/echo")
    brought = httpx.get(f"{lone.url}/echo", headers={"x-request-id": "mine-1"})
    hostile = httpx.get(f"{lone.url}/echo", headers={"x-request-id": 'a"b<c>'})

    for response in (made, brought, hostile):
        assert response.headers["x-request-id"] == response.json()["headers"]["x-request-id"]
    assert made.headers["x-request-id"].startswith("req_")
    assert brought.headers["x-request-id"] == "mine-1"
    assert hostile.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", ["/stream", "/wait"])
def test_a_client_that_leaves_is_gone_at_the_node_within_a_second(
    lone: LoneProxy, path: str
) -> None:
    node = lone.add_node()
    with socket.create_connection(("127.0.0.1", lone.port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert node.has_client.wait(5)

    assert node.lost_client.wait(1)


def test_chunks_of_a_stream_arrive_one_by_one_at_once(lone: LoneProxy) -> None:
    lone.add_node()
    delays = []
    with httpx.stream("GET", f"{lone.url}/stream") as response:
        for line in response.iter_lines():
            if line:
                delays.append(time.monotonic() - float(line.removeprefix("data: ")))
            if len(delays) == 10:
                break

    assert sorted(delays)[5] < 0.05


def test_a_request_goes_to_another_node_when_one_refuses_it(lone: LoneProxy) -> None:
    lone.add_node().close()
    survivor = lone.add_node()

    with httpx.Client() as client:
        answers = [client.post(f"{lone.url}/echo", json={}) for _ in range(20)]

    assert {answer.json()["node"] for answer in answers} == {survivor.name}


def test_a_drained_node_gets_nothing_new_until_it_is_ready_again(lone: LoneProxy) -> None:
    first, second = lone.add_node(), lone.add_node()

    lone.api.set_state(first.name, ServerState.DRAIN)
    assert ask(lone, 10) == {second.name}
    assert state_of(lone.api, first.name) is ServerState.DRAIN

    lone.api.set_state(second.name, ServerState.MAINT)
    lone.api.set_state(first.name, ServerState.READY)
    assert ask(lone, 10) == {first.name}
    assert state_of(lone.api, second.name) is ServerState.MAINT


def test_a_killed_haproxy_remembers_its_nodes(lone: LoneProxy) -> None:
    first, second, third = lone.add_node(), lone.add_node(), lone.add_node()
    lone.api.set_state(first.name, ServerState.DRAIN)
    lone.api.set_state(second.name, ServerState.MAINT)
    before = lone.api.servers()

    lone.kill()
    lone.start()

    assert ask(lone, 10) == {third.name}
    assert [(s.name, s.port, s.state) for s in lone.api.servers()] == [
        (s.name, s.port, s.state) for s in before
    ]


def test_servers_have_address_state_and_health(lone: LoneProxy) -> None:
    node = lone.add_node()
    server, *others = lone.api.servers()

    assert (server.name, server.host, server.port) == (node.name, "127.0.0.1", node.port)
    assert server.state is ServerState.READY
    assert server.is_up
    assert len(others) == 31
    assert {other.state for other in others} == {ServerState.MAINT}
    node.close()
    eventually(lambda: not lone.api.servers()[0].is_up, seconds=5, what="the check fails")


def test_the_private_side_has_statistics_and_metrics(lone: LoneProxy) -> None:
    assert "haproxy_server_status" in httpx.get(f"{lone.private_url}/metrics").text
    assert "Statistics Report" in httpx.get(f"{lone.private_url}/").text


def test_what_haproxy_refuses_is_an_error_with_its_words(lone: LoneProxy) -> None:
    with pytest.raises(HAProxyRefused, match="No such server"):
        lone.api.set_state("node99", ServerState.READY)
    with pytest.raises(HAProxyRefused, match="No such server"):
        lone.api.add("node99", host="127.0.0.1", port=1)
    with pytest.raises(HAProxyRefused, match="Invalid addr"):
        lone.api.add("node1", host="nowhere", port=1)
    with pytest.raises(HAProxyRefused, match="one line"):
        lone.api.add("node1", host="127.0.0.1; shutdown", port=1)
    stranger = RuntimeApi(lone.part.layout.haproxy_socket, backend="nothing")
    with pytest.raises(HAProxyRefused, match="Can't find backend"):
        stranger.servers()


def test_an_absent_haproxy_is_an_error_that_may_pass(tmp_path: Path) -> None:
    with pytest.raises(HAProxyUnavailable):
        RuntimeApi(tmp_path / "haproxy.sock").servers()


def check(lone: LoneProxy, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Check the configuration by HAProxy, without running it."""
    return subprocess.run(
        [lone.part.binary, "-c", "-f", proxy.CONFIG_DIR / "haproxy.cfg"],
        cwd="/",
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def ask(lone: LoneProxy, count: int) -> set[str]:
    """Return which nodes answered."""
    return {httpx.get(f"{lone.url}/echo").json()["node"] for _ in range(count)}


def state_of(api: RuntimeApi, name: str) -> ServerState:
    """Return the requests to one server."""
    return next(server.state for server in api.servers() if server.name == name)
