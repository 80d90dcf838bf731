"""deploy/nginx/headrace.conf on a real nginx, before nodes that are not Headrace, and our own."""

from __future__ import annotations

import json
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.calls import chat_body
from tests.support.fake_node import FakeNode
from tests.support.lone_proxy import assert_envelope
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stack_plugin import EmbeddedStack
from tests.deploy.own_nginx import Nginx


# --- Failures -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "headers"),
    [("GET", {}), ("HEAD", {}), ("POST", {"idempotency-key": "one"})],
    ids=["get", "head", "post-with-key"],
)
def test_what_may_be_repeated_goes_to_another_node_when_one_dies_with_it(
    nginx: Nginx, nodes: list[FakeNode], method: str, headers: dict[str, str]
) -> None:
    nodes[0].resets = 1
    # One of the two comes to the node that dies with it.
    answers = [httpx.request(method, f"{nginx.url}/echo", headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(nodes[0].requests) + len(nodes[1].requests) == 3


def test_a_post_that_a_node_died_with_is_not_repeated(nginx: Nginx, nodes: list[FakeNode]) -> None:
    for node in nodes:
        node.resets = 1
    answer = httpx.post(f"{nginx.url}/v1/chat/completions", json={})

    assert_envelope(answer, 502, "bad_gateway")
    assert answer.headers["retry-after"] == "1"
    assert len(nodes[0].requests) + len(nodes[1].requests) == 1


def test_a_request_that_no_node_saw_goes_to_another(nginx: Nginx, nodes: list[FakeNode]) -> None:
    nodes[0].close()

    answers = [httpx.post(f"{nginx.url}/echo", json={}) for _ in range(6)]

    assert {answer.json()["node"] for answer in answers} == {"node2"}


def test_without_a_node_the_answer_is_json(nginx: Nginx, nodes: list[FakeNode]) -> None:
    for node in nodes:
        node.close()

    assert_envelope(httpx.get(f"{nginx.url}/v1/models"), 502, "bad_gateway")


def test_a_node_that_does_not_answer_is_a_504(make_nginx: Callable[..., Nginx]) -> None:
    nginx = make_nginx({"proxy_read_timeout 660s;": "proxy_read_timeout 300ms;"})

    assert_envelope(httpx.post(f"{nginx.url}/wait"), 504, "gateway_timeout")


def test_a_client_that_leaves_is_gone_at_the_node(nginx: Nginx, nodes: list[FakeNode]) -> None:
    with socket.create_connection(("127.0.0.1", nginx.port)) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: any(n.has_client.is_set() for n in nodes), seconds=5, what="a stream")

    eventually(lambda: any(n.lost_client.is_set() for n in nodes), seconds=2, what="its end")


# --- The client ---------------------------------------------------------------------------------
def test_only_nginx_sets_the_clients_address(nginx: Nginx) -> None:
    lies = {
        "forwarded": "for=1.2.3.4",
        "x-forwarded-for": "1.2.3.4",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil.example",
        "x-forwarded-ssl": "on",
        "x-real-ip": "1.2.3.4",
        "script_name": "/x",
    }
    headers = httpx.get(f"{nginx.url}/echo", headers=lies).json()["headers"]

    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert not (lies.keys() - {"x-forwarded-for", "x-forwarded-proto"}) & set(headers)


def test_a_trusted_proxy_sets_the_clients_address(make_nginx: Callable[..., Nginx]) -> None:
    nginx = make_nginx(
        {
            "#10.0.0.1/32 1;": "127.0.0.1/32 1;",
            "#set_real_ip_from 10.0.0.1/32;": "set_real_ip_from 127.0.0.0/8;",
        }
    )
    claims = {"x-forwarded-for": "6.6.6.6, 203.0.113.7, 127.0.0.2", "x-forwarded-proto": "https"}
    answer = httpx.get(f"{nginx.url}/echo", headers=claims)

    assert answer.json()["headers"]["x-forwarded-for"] == "203.0.113.7"
    assert answer.json()["headers"]["x-forwarded-proto"] == "https"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_a_request_has_one_id_at_the_node_and_in_the_answer(nginx: Nginx) -> None:
    made = httpx.get(f"{nginx.url}/echo")
    brought = httpx.post(f"{nginx.url}/echo", headers={"x-request-id": "mine-1"})
    hostile = httpx.get(f"{nginx.url}/echo", headers={"x-request-id": 'a"b<c>'})

    for response in (made, brought, hostile):
        assert response.headers.get_list("x-request-id") == [
            response.json()["headers"]["x-request-id"]
        ]
    assert made.headers["x-request-id"].startswith("req_")
    assert brought.headers["x-request-id"] == "mine-1"
    assert hostile.headers["x-request-id"].startswith("req_")


def test_a_certificate_makes_it_https(make_nginx: Callable[..., Nginx], certificate: Path) -> None:
    nginx = make_nginx(certificate=certificate)
    context = ssl.create_default_context(cafile=certificate)

    secure = httpx.get(f"https://localhost:{nginx.tls_port}/echo", verify=context)
    kept = httpx.get(f"https://localhost:{nginx.tls_port}/static/x", verify=context)
    plain = httpx.post(f"{nginx.url}/v1/jobs?x=1", headers={"host": "api.example"})
    bad = httpx.get(f"{nginx.url}/v1%5cmodels")

    assert secure.json()["headers"]["x-forwarded-proto"] == "https"
    assert secure.headers["strict-transport-security"] == "max-age=31536000"
    assert kept.headers.get_list("strict-transport-security") == ["max-age=1; preload"]
    assert plain.status_code == 308
    assert plain.headers["location"] == "https://api.example/v1/jobs?x=1"
    assert_envelope(bad, 400, "bad_request")
    assert httpx.get(f"{nginx.url}/health/ready").status_code == 200


def test_clients_that_can_speak_http_2(make_nginx: Callable[..., Nginx], certificate: Path) -> None:
    nginx = make_nginx(certificate=certificate)
    context = ssl.create_default_context(cafile=certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    raw = socket.create_connection(("127.0.0.1", nginx.tls_port), timeout=5)
    with context.wrap_socket(raw, server_hostname="localhost") as connection:
        assert connection.selected_alpn_protocol() == "h2"


def test_static_files_are_fetched_once(nginx: Nginx, nodes: list[FakeNode]) -> None:
    answers = [httpx.get(f"{nginx.url}/static/app.0123abcd.css") for _ in range(4)]

    assert len({answer.text for answer in answers}) == 1
    assert len(nodes[0].requests) + len(nodes[1].requests) == 1


def test_a_node_gets_one_health_request_a_second_for_any_number_of_clients(
    nginx: Nginx, nodes: list[FakeNode]
) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads, httpx.Client() as client:
        paths = [f"/health/ready?number={number}" for number in range(300)]
        answers = list(threads.map(lambda path: client.get(f"{nginx.url}{path}"), paths))

    assert {answer.status_code for answer in answers} == {200}
    assert sum(node.checks for node in nodes) <= time.monotonic() - began + 2


# --- Headrace -----------------------------------------------------------------------------------
@pytest.fixture
def headrace(binary: Path, stack: EmbeddedStack, chains: None) -> Iterator[Nginx]:
    """A nginx before the stack's own nodes."""
    addresses = [stack.part(name)["address"] for name in ("node1", "node2")]
    found = Nginx(binary, [int(address.rsplit(":")[-1]) for address in addresses])
    yield found
    found.close()


def test_headrace_answers_through_nginx(headrace: Nginx, stack: EmbeddedStack) -> None:
    with httpx.Client(
        base_url=headrace.url, headers={"Authorization": f"Bearer {stack.demo_key}"}, timeout=30
    ) as client:
        models = client.get("/v1/models")
        chat = client.post("/v1/chat/completions", json=chat_body("provider-hello", "hello"))
        missing = client.get("/v1/conversations/none")
        large = client.post("/v1/chat/completions", content=b"x" * 3_000_000)

    assert models.status_code == 200
    assert chat.status_code == 200, chat.text
    assert_envelope(missing, 404, "conversation_not_found")
    assert large.status_code in (400, 415)
    assert len(chat.headers.get_list("x-request-id")) == 1


def test_a_stream_passes_chunk_by_chunk(headrace: Nginx, stack: EmbeddedStack) -> None:
    body = {**chat_body("provider-slow-stream", "hello"), "stream": True}
    arrivals = []
    with httpx.stream(
        "POST",
        f"{headrace.url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {stack.demo_key}"},
        json=body,
        timeout=30,
    ) as response:
        assert response.status_code == 200, json.dumps(body)
        arrivals = [time.monotonic() for line in response.iter_lines() if line.startswith("data:")]

    assert len(arrivals) > 3
    assert arrivals[-1] - arrivals[0] > 0.3
