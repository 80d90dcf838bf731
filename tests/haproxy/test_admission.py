"""HAProxy's own refusals: floods, requests that wait too long, bad addresses, slow clients."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.lone_proxy import LoneProxy, assert_envelope, assert_raw_envelope, read_all
from tests.support.waiting import eventually, slack

if TYPE_CHECKING:
    from collections.abc import Callable

# No client of these tests.
NOBODY = "192.0.2.1"
HEAD = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"


# --- One address --------------------------------------------------------------------------------
def test_a_client_with_too_many_requests_gets_retry_after(
    make_proxy: Callable[..., LoneProxy],
) -> None:
    lone = make_proxy(PROXY_ADDRESS_REQUESTS="5", PROXY_UNLIMITED_ADDRESSES=NOBODY)
    node = lone.add_node()

    with httpx.Client() as client:
        answers = [client.get(f"{lone.url}/echo") for _ in range(8)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert_envelope(answers[-1], 429, "rate_limited")
    assert answers[-1].headers["retry-after"] == "5"
    assert len(node.requests) == 5


def test_addresses_of_private_networks_are_not_counted(
    make_proxy: Callable[..., LoneProxy],
) -> None:
    lone = make_proxy(PROXY_ADDRESS_REQUESTS="1", PROXY_ADDRESS_CONNECTIONS="1")
    lone.add_node()

    with contextlib.ExitStack() as open_ones:
        for _ in range(5):
            open_ones.enter_context(lone.connect())
        assert [httpx.get(f"{lone.url}/echo").status_code for _ in range(5)] == [200] * 5


def test_a_client_with_too_many_connections_gets_429_and_then_no_connection(
    make_proxy: Callable[..., LoneProxy],
) -> None:
    lone = make_proxy(PROXY_ADDRESS_CONNECTIONS="3", PROXY_UNLIMITED_ADDRESSES=NOBODY)
    lone.add_node()

    with contextlib.ExitStack() as open_ones:
        answers = [first_answer(lone, open_ones) for _ in range(8)]

    assert [answer[9:12] for answer in answers] == [b"200"] * 3 + [b"429"] * 2 + [b""] * 3
    assert_raw_envelope(answers[4], 429, "rate_limited")

    def is_heard_again() -> bool:
        return httpx.get(f"{lone.url}/echo").status_code == 200

    eventually(is_heard_again, seconds=5, what="the connections are gone")


def first_answer(lone: LoneProxy, open_ones: contextlib.ExitStack) -> bytes:
    """Open one connection more, and return what is answered on it; nothing when it is refused."""
    try:
        connection = open_ones.enter_context(lone.connect())
        connection.sendall(HEAD)
        return connection.recv(65536)
    except (BrokenPipeError, ConnectionResetError):
        return b""


# --- The queue ----------------------------------------------------------------------------------
def test_a_full_queue_is_a_503_at_once(make_proxy: Callable[..., LoneProxy]) -> None:
    lone = make_proxy(PROXY_NODE_CONNECTIONS="1", PROXY_QUEUE="2")
    node = lone.add_node()
    wait = b"POST /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"

    with contextlib.ExitStack() as waiting:
        waiting.enter_context(lone.connect()).sendall(wait)
        assert node.has_client.wait(5)
        # Only now: of requests that come at once, two threads of HAProxy may let in one each.
        for _ in range(2):
            waiting.enter_context(lone.connect()).sendall(wait)
        eventually(lambda: lone.statistics("BACKEND")["qcur"] == "2", seconds=5, what="two wait")
        answers, delays = [], []
        for _ in range(5):
            started = time.monotonic()
            answers.append(lone.raw(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
            delays.append(time.monotonic() - started)

    for answer in answers:
        assert_raw_envelope(answer, 503, "service_unavailable")
        assert b"\r\nretry-after: 1\r\n" in answer.lower()
    # The queue's own limit is 5 s; one of them may meet a busy machine.
    assert sorted(delays)[2] < 0.1
    assert node.requests == ["/wait"]


def test_a_wait_in_the_queue_ends_with_a_503(make_proxy: Callable[..., LoneProxy]) -> None:
    lone = make_proxy(PROXY_NODE_CONNECTIONS="1", PROXY_QUEUE_TIMEOUT="1s")
    node = lone.add_node()

    with lone.connect() as waiting:
        waiting.sendall(b"POST /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert node.has_client.wait(5)
        answer = httpx.get(f"{lone.url}/echo", timeout=10)

    assert_envelope(answer, 503, "service_unavailable")


# --- Requests -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path",
    [
        "/v1/../metrics",
        "/v1/..",
        "/./v1/models",
        "/v1/%2e%2e/metrics",
        "/v1/%2E./metrics",
        "/v1/..%2fmetrics",
        "//metrics",
        "/v1//models",
        "/v1/%2fmodels",
        "/v1\\models",
        "/v1%5cmodels",
        "/v1/models%00",
    ],
)
def test_an_address_of_an_attack_is_refused(lone: LoneProxy, path: str) -> None:
    node = lone.add_node()
    answer = lone.raw(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )

    assert_raw_envelope(answer, 400, "bad_request")
    assert not node.requests


@pytest.mark.parametrize("address", ["metrics", "*", "x:metrics", "?x"])
def test_an_address_without_a_path_never_comes_to_a_node(lone: LoneProxy, address: str) -> None:
    node = lone.add_node()
    answer = lone.raw(
        f"GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )

    # Older parsers refuse some of them by themselves, in HTML.
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert not node.requests


@pytest.mark.parametrize(
    "path", ["/v1/a..b", "/.well-known/x", "/v1/models/a.b", "/v1/x?next=../a//b", "/v1/%C3%BC"]
)
def test_dots_in_names_and_slashes_in_queries_are_no_harm(lone: LoneProxy, path: str) -> None:
    node = lone.add_node()

    assert httpx.get(f"{lone.url}{path}").status_code == 200
    assert node.requests == [path]


def test_a_body_that_does_not_come_is_a_408(make_proxy: Callable[..., LoneProxy]) -> None:
    lone = make_proxy(PROXY_REQUEST_TIMEOUT="1500ms", PROXY_CLIENT_TIMEOUT="30s")
    node = lone.add_node()
    started = time.monotonic()
    with lone.connect() as connection:
        connection.settimeout(15)
        connection.sendall(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nslow"
        )
        answer = read_all(connection)

    assert_raw_envelope(answer, 408, "request_timeout")
    assert 1.4 < time.monotonic() - started < slack(4)
    assert not node.requests


def test_a_head_that_drips_is_cut_off(make_proxy: Callable[..., LoneProxy]) -> None:
    lone = make_proxy(PROXY_REQUEST_TIMEOUT="1500ms")
    with lone.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        started = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() - started < 15:
                time.sleep(0.2)
                connection.sendall(b"X: y\r\n")

    assert 1.4 < time.monotonic() - started < slack(4)


# --- The admin ----------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/login/", "/%61dmin/"])
def test_the_admin_may_be_for_some_addresses_only(
    make_proxy: Callable[..., LoneProxy], path: str
) -> None:
    closed = make_proxy(PROXY_ADMIN_ADDRESSES="10.0.0.0/8")
    closed.add_node()
    opened = make_proxy(PROXY_ADMIN_ADDRESSES="10.0.0.0/8 127.0.0.1")
    opened.add_node()

    assert_envelope(httpx.get(f"{closed.url}{path}"), 404, "not_found")
    assert httpx.get(f"{closed.url}/v1/models").status_code == 200
    assert httpx.get(f"{opened.url}{path}").status_code == 200


def test_the_admin_is_for_private_networks_when_nothing_is_set(
    make_proxy: Callable[..., LoneProxy],
) -> None:
    lone = make_proxy(PROXY_TRUSTED_ADDRESSES="127.0.0.1")
    lone.add_node()

    for address, status in {"10.1.2.3": 200, "fd00::1": 200, "203.0.113.7": 404}.items():
        answer = httpx.get(f"{lone.url}/admin/", headers={"x-forwarded-for": address})
        assert answer.status_code == status
