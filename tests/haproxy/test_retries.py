"""HAProxy's retries, and its judgement of nodes that fail."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.lone_proxy import LoneProxy, assert_envelope
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

# In /proc/net/tcp.
ESTABLISHED = "01"
KEEPALIVE = "02"


@pytest.mark.parametrize(
    ("method", "headers"),
    [("GET", {}), ("HEAD", {}), ("POST", {"idempotency-key": "one"})],
    ids=["get", "head", "post-with-key"],
)
def test_what_may_be_repeated_goes_to_another_node_when_one_dies_with_it(
    lone: LoneProxy, method: str, headers: dict[str, str]
) -> None:
    first, second = lone.add_node(), lone.add_node()
    first.resets = second.resets = 1

    # Whichever node it comes to is the first to reset it, and the other is the second.
    answer = httpx.request(method, f"{lone.url}/echo", headers=headers)

    assert answer.status_code == 200
    assert len(first.requests) + len(second.requests) == 3
    assert first.requests
    assert second.requests


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_what_may_not_be_repeated_is_not(lone: LoneProxy, method: str) -> None:
    first, second = lone.add_node(), lone.add_node()
    first.resets = second.resets = 1

    answer = httpx.request(method, f"{lone.url}/echo")

    assert_envelope(answer, 502, "bad_gateway")
    assert answer.headers["retry-after"] == "1"
    assert len(first.requests) + len(second.requests) == 1


def test_a_clients_reused_connection_is_closed_instead(lone: LoneProxy) -> None:
    """HAProxy lets such a client try again by itself, as after an idle connection's end."""
    node = lone.add_node()
    with httpx.Client(base_url=lone.url) as client:
        assert client.post("/echo").status_code == 200
        node.resets = 1
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            client.post("/echo")

    assert len(node.requests) == 2


def test_an_idempotency_key_makes_no_other_method_repeatable(lone: LoneProxy) -> None:
    node = lone.add_node()
    node.resets = 1

    answer = httpx.delete(f"{lone.url}/echo", headers={"idempotency-key": "one"})

    assert_envelope(answer, 502, "bad_gateway")
    assert len(node.requests) == 1


def test_an_answer_that_is_no_http_is_a_502(lone: LoneProxy) -> None:
    lone.add_node()

    assert_envelope(httpx.post(f"{lone.url}/bad"), 502, "bad_gateway")


def test_an_answer_of_500_is_an_answer(lone: LoneProxy) -> None:
    node = lone.add_node()

    assert httpx.get(f"{lone.url}/fail").json()["node"] == node.name
    assert len(node.requests) == 1


def test_failures_have_a_node_looked_at_and_leave_it_in(lone: LoneProxy) -> None:
    node = lone.add_node()
    eventually(lambda: node.checks >= 2, seconds=5, what="checks")

    # A provider that is down makes every answer one, and no check's answer comes in that time.
    node.check_seconds = 1.0
    with httpx.Client() as client:
        for _ in range(50):
            assert client.get(f"{lone.url}/fail").status_code == 500

    assert int(lone.statistics(node.name)["hanafail"]) >= 3
    assert lone.api.servers()[0].is_up


def test_a_node_that_does_not_answer_is_a_504(make_proxy: Callable[..., LoneProxy]) -> None:
    lone = make_proxy(PROXY_RESPONSE_TIMEOUT="300ms")
    lone.add_node()

    assert_envelope(httpx.post(f"{lone.url}/wait"), 504, "gateway_timeout")


def test_only_a_post_may_wait_as_long_as_a_chain(make_proxy: Callable[..., LoneProxy]) -> None:
    lone = make_proxy(PROXY_RESPONSE_TIMEOUT="300ms")
    lone.add_node()

    # The other methods' minute is not over.
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{lone.url}/wait", timeout=1)


def test_a_machine_that_vanishes_is_noticed(lone: LoneProxy) -> None:
    """While both are silent the kernel probes the other side (TCP keepalive)."""
    node = lone.add_node()
    with httpx.stream("GET", f"{lone.url}/stream"):
        for side in (1, 2):
            port = lone.port if side == 1 else node.port
            eventually(
                lambda side=side, port=port: KEEPALIVE in timers(port, side=side),
                seconds=3,
                what="a keepalive timer runs",
            )


def timers(port: int, *, side: int) -> list[str]:
    """Return the timers of connections whose end 1 (here) or 2 (there) has this port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    mine = [
        line for line in lines if line[3] == ESTABLISHED and line[side].endswith(f":{port:04X}")
    ]
    return [line[5].split(":")[0] for line in mine]
