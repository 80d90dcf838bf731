"""Pages, and logins above all: what one address, and all together, may request at HAProxy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.support.lone_proxy import LoneProxy, assert_envelope, assert_raw_envelope
from tests.support.waiting import eventually

LOGINS = 3
FORM = {"username": "admin", "password": "wrong"}
WAIT = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"


def log_in(lone: LoneProxy, path: str = "/admin/login/", address: str = "") -> httpx.Response:
    headers = {"x-forwarded-for": address} if address else {}
    return httpx.post(f"{lone.url}{path}", data=FORM, headers=headers)


def test_an_address_that_logs_in_too_often_has_to_wait(
    make_proxy: Callable[..., LoneProxy],
) -> None:
    # Private networks, as here, are no exception.
    lone = make_proxy(PROXY_ADDRESS_LOGINS=str(LOGINS), PROXY_TRUSTED_ADDRESSES="127.0.0.1")
    node = lone.add_node()

    paths = ["/admin/login/", "/%61dmin/login/?next=/", "/admin/login"] * 2
    answers = [log_in(lone, path) for path in paths]

    assert [answer.status_code for answer in answers] == [200] * LOGINS + [429] * LOGINS
    assert_envelope(answers[-1], 429, "rate_limited")
    assert len(node.requests) == LOGINS
    # Its other requests, and other addresses' logins, are free.
    assert httpx.get(f"{lone.url}/admin/login/").status_code == 200
    assert httpx.post(f"{lone.url}/v1/chat/completions").status_code == 200
    assert log_in(lone, address="10.0.113.7").status_code == 200


def test_all_logins_together_are_limited_too(make_proxy: Callable[..., LoneProxy]) -> None:
    lone = make_proxy(PROXY_LOGINS=str(LOGINS), PROXY_TRUSTED_ADDRESSES="127.0.0.1")
    node = lone.add_node()

    statuses = [log_in(lone, address=f"10.0.113.{n}").status_code for n in range(2 * LOGINS)]

    assert statuses == [200] * LOGINS + [429] * LOGINS
    assert len(node.requests) == LOGINS
    assert httpx.get(f"{lone.url}/admin/").status_code == 200


def test_who_may_not_see_the_admin_uses_up_no_logins(make_proxy: Callable[..., LoneProxy]) -> None:
    lone = make_proxy(PROXY_LOGINS="1", PROXY_TRUSTED_ADDRESSES="127.0.0.1")
    lone.add_node()

    assert [log_in(lone, address="203.0.113.7").status_code for _ in range(3)] == [404] * 3
    assert log_in(lone).status_code == 200


def test_the_defaults_let_a_person_mistype(lone: LoneProxy) -> None:
    lone.add_node()

    assert [log_in(lone).status_code for _ in range(11)] == [200] * 10 + [429]


def test_a_login_with_a_large_body_is_refused(lone: LoneProxy) -> None:
    node = lone.add_node()

    answer = httpx.post(f"{lone.url}/admin/login/", data={**FORM, "x": "x" * 70_000})

    assert_envelope(answer, 413, "body_too_large")
    assert node.requests == []


def test_an_address_has_few_pages_at_a_time(make_proxy: Callable[..., LoneProxy]) -> None:
    lone = make_proxy(PROXY_ADDRESS_PAGES="2", PROXY_SLOW_START="0")
    node = lone.add_node()

    with contextlib.ExitStack() as waiting:
        for _ in range(2):
            node.has_client.clear()
            waiting.enter_context(lone.connect()).sendall(WAIT)
            assert node.has_client.wait(5)
        refused = lone.raw(WAIT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        for path in ("/v1/models", "/chains/a/invoke", "/health/ready", "/static/a.css"):
            assert httpx.get(f"{lone.url}{path}").status_code == 200

    assert_raw_envelope(refused, 429, "rate_limited")


def test_a_cancel_goes_first_and_keys_that_no_node_knows_go_last(
    make_proxy: Callable[..., LoneProxy],
) -> None:
    lone = make_proxy(PROXY_NODE_CONNECTIONS="1", PROXY_SLOW_START="0")
    node = lone.add_node()
    cancel = "/v1/jobs/job_1/cancel"
    paths = [
        "/v1/models",
        "/admin/",
        "/echo",
        "/v1/chat/completions/cancel",
        cancel,
    ]

    with contextlib.ExitStack() as waiting:
        with lone.connect() as first:
            first.sendall(WAIT)
            assert node.has_client.wait(5)
            for number, path in enumerate(paths, 1):
                head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
                waiting.enter_context(lone.connect()).sendall(head.encode())
                eventually(
                    lambda number=number: lone.statistics("BACKEND")["qcur"] == str(number),
                    seconds=5,
                    what="it waits",
                )
        # The node is free again.
        eventually(
            lambda: len(node.requests) == len(paths) + 1, seconds=5, what="all were answered"
        )

    models, *pages, similar, _ = paths
    assert node.requests == ["/wait", cancel, *pages, models, similar]


def test_health_requests_of_clients_reach_no_node(lone: LoneProxy) -> None:
    node = lone.add_node()
    checks, began = node.checks, time.monotonic()
    asked = [("GET", "/health/ready"), ("HEAD", "/health/ready"), ("GET", "/health/ready?a=1")]

    with ThreadPoolExecutor(8) as threads, httpx.Client() as client:

        def ask(number: int) -> tuple[int, str]:
            method, path = asked[number % len(asked)]
            answer = client.request(method, f"{lone.url}{path}")
            return answer.status_code, answer.text

        answers = set(threads.map(ask, range(900)))

    assert answers == {(200, '{"status": "ok"}'), (200, "")}
    assert node.requests == []
    # HAProxy's own come once a second.
    assert node.checks - checks <= time.monotonic() - began + 2
    # "UP 1/2" after a check that was late: the clients share this process with the node.
    assert lone.statistics("node1")["status"].startswith("UP")


def test_other_pages_of_health_and_other_methods_are_not_there(lone: LoneProxy) -> None:
    node = lone.add_node()

    for path in ("/health/", "/health/other", "/health/%72eady", "/health/ready/", "/%68ealth/x"):
        assert_envelope(httpx.get(f"{lone.url}{path}"), 404, "not_found")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = httpx.request(method, f"{lone.url}/health/ready")
        assert_envelope(answer, 405, "method_not_allowed")
    assert node.requests == []


def test_health_is_503_without_a_node_that_is_ready(lone: LoneProxy) -> None:
    assert_envelope(httpx.get(f"{lone.url}/health/ready"), 503, "service_unavailable")
    node = lone.add_node()

    def status() -> int:
        return httpx.get(f"{lone.url}/health/ready").status_code

    eventually(lambda: status() == 200, seconds=5, what="the node is ready")
    node.check_status = 503
    eventually(lambda: status() == 503, seconds=5, what="the node is not")
