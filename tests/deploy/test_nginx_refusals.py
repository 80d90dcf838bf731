"""What nginx refuses by itself with deploy/nginx/headrace.conf."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from fleet.cluster import proxy
from tests.haproxy.addresses import BAD, generated, is_private
from tests.support.fake_node import FakeNode
from tests.support.lone_proxy import assert_envelope, assert_raw_envelope

if TYPE_CHECKING:
    from collections.abc import Callable

from tests.deploy.own_nginx import CONFIG, Nginx


# --- What is refused ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        ("GET /metrics HTTP/1.1", 404, "not_found"),
        ("GET /%6detrics HTTP/1.1", 404, "not_found"),
        ("GET /health/live HTTP/1.1", 404, "not_found"),
        ("GET /health/other HTTP/1.1", 404, "not_found"),
        ("POST /health/ready HTTP/1.1\r\nContent-Length: 0", 404, "not_found"),
        ("GET /v1/../metrics HTTP/1.1", 400, "bad_request"),
        ("GET /v1/%2e%2E/metrics HTTP/1.1", 400, "bad_request"),
        ("GET //metrics HTTP/1.1", 400, "bad_request"),
        ("GET /v1%5cmodels HTTP/1.1", 400, "bad_request"),
        ("GET /v1/models%00 HTTP/1.1", 400, "bad_request"),
        ("GET /v1/models HTTP/1.1\r\nContent-Length: -1", 400, "bad_request"),
        ("GET /v1/models HTTP/1.1\r\nHost: twice", 400, "bad_request"),
        ("nonsense", 400, "bad_request"),
        ("GET / HTTP/9.9", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: what", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", 400, "bad_request"),
        ("CONNECT localhost:1 HTTP/1.1", 400, "bad_request"),
        ("TRACE /v1/models HTTP/1.1", 405, "method_not_allowed"),
        (f"GET /{'x' * 9000} HTTP/1.1", 414, "uri_too_long"),
        (f"GET /{'x' * 20_000} HTTP/1.1", 414, "uri_too_long"),
        (f"GET / HTTP/1.1\r\nX: {'x' * 20_000}", 431, "headers_too_large"),
    ],
)  # fmt: skip
def test_what_is_refused_gets_the_envelope(
    nginx: Nginx, nodes: list[FakeNode], head: str, status: int, code: str
) -> None:
    answer = nginx.raw(f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert_raw_envelope(answer.replace(b"X-Request-Id: ", b"x-request-id: "), status, code)
    assert not nodes[0].requests + nodes[1].requests


def test_no_generated_address_reaches_what_is_private(
    make_nginx: Callable[..., Nginx], nodes: list[FakeNode]
) -> None:
    closed = make_nginx({"allow 127.0.0.0/8;": ""})
    for method, target in [*(("GET", target) for target in BAD), *generated(500, seed=13)]:
        closed.raw(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))

    reached = [path for node in nodes for path in node.requests]
    assert len(reached) > 5
    assert [path for path in reached if is_private(path)] == []


@pytest.mark.parametrize(("path", "limit"), [("/v1/x", 4_194_304), ("/v1/jobs", 22_020_096)])
def test_a_body_over_the_limit_is_refused(nginx: Nginx, path: str, limit: int) -> None:
    assert httpx.post(f"{nginx.url}{path}", content=b"x" * limit).status_code == 200
    answer = httpx.post(f"{nginx.url}{path}", content=b"x" * (limit + 1))

    assert_envelope(answer, 413, "body_too_large")


def test_the_envelopes_are_haproxys() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    for path in proxy.CONFIG_DIR.glob("errors/*.http"):
        if path.stem != "403":
            body = path.read_text(encoding="utf-8").partition("\n\n")[2]
            assert f"'{body.strip()}';" in text, path.stem


def test_a_client_with_too_many_requests_gets_retry_after(make_nginx: Callable[..., Nginx]) -> None:
    nginx = make_nginx(
        {"burst=3000": "burst=4", "rate=300r/s": "rate=1r/m", "127.0.0.0/8    1;": ""}
    )

    with httpx.Client() as client:
        answers = [client.get(f"{nginx.url}/echo") for _ in range(8)]
        posts = [client.post(f"{nginx.url}/echo") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    for answer in (answers[-1], *posts):
        assert_envelope(answer, 429, "rate_limited")
        assert answer.headers["retry-after"] == "5"


def test_the_admin_may_be_for_some_addresses_only(make_nginx: Callable[..., Nginx]) -> None:
    nginx = make_nginx({"allow 127.0.0.0/8;": ""})

    assert_envelope(httpx.get(f"{nginx.url}/admin/"), 404, "not_found")
    assert httpx.get(f"{nginx.url}/v1/models").status_code == 200


def test_the_admin_is_for_private_networks(nginx: Nginx) -> None:
    assert httpx.get(f"{nginx.url}/admin/").status_code == 200


def test_pages_of_an_allowed_origin_can_read_answers(make_nginx: Callable[..., Nginx]) -> None:
    nginx = make_nginx({'#"~^/(v1|chains)/': '"~^/(v1|chains)/'})
    headers = {"origin": "https://app.example.org"}
    answer = httpx.get(f"{nginx.url}/v1/echo", headers=headers)
    error = httpx.get(f"{nginx.url}/v1//echo", headers=headers)
    ask = {**headers, "access-control-request-method": "POST"}
    preflight = httpx.options(f"{nginx.url}/v1/echo", headers=ask)
    other = httpx.get(f"{nginx.url}/v1/echo", headers={"origin": "https://app.example.org.evil"})

    assert (answer.status_code, error.status_code, preflight.status_code) == (200, 400, 204)
    for one in (answer, error, preflight):
        assert one.headers.get_list("access-control-allow-origin") == [headers["origin"]]
    assert preflight.headers["access-control-allow-headers"] == "authorization, *"
    assert not [name for name in other.headers if name.startswith("access-control")]


def test_logins_are_few(nginx: Nginx) -> None:
    answers = [httpx.post(f"{nginx.url}/%61dmin/login/", data={"username": "a"}) for _ in range(12)]

    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
    assert_envelope(answers[-1], 429, "rate_limited")
    assert httpx.post(f"{nginx.url}/v1/models").status_code == 200
