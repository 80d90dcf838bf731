"""Busy nodes limit the requests that HAProxy sends them at a time (haproxy/limit.lua)."""

from __future__ import annotations

import random
import signal
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from fleet.cluster.node import max_requests_in_flight
from tests.support.lone_proxy import LoneProxy, assert_envelope
from tests.support.waiting import eventually

CLIENTS = 12
CERTIFICATES = ssl.create_default_context()
USUAL = str(max_requests_in_flight())


@pytest.fixture
def lone(make_proxy: Callable[..., LoneProxy]) -> LoneProxy:
    """A running HAProxy that gives new nodes all that they take."""
    return make_proxy(PROXY_SLOW_START="0")


def flood(lone: LoneProxy, path: str, *, seconds: float = 1.5) -> Counter[int]:
    """Send requests from many clients without pause, and count the answers' statuses."""
    clients = [new_client(lone) for _ in range(CLIENTS)]
    until = time.monotonic() + seconds
    statuses: Counter[int] = Counter()

    def run(client: httpx.Client) -> None:
        with client:
            while time.monotonic() < until:
                statuses[send(client, path)] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(run, clients))
    return statuses


def new_client(lone: LoneProxy) -> httpx.Client:
    """Return a client; one that loads certificates for itself takes a processor for 20 ms."""
    return httpx.Client(base_url=lone.url, timeout=10, verify=CERTIFICATES)


def send(client: httpx.Client, path: str, *, key: str = "") -> int:
    """Send a request, and return the status of its answer; pause after a refusal."""
    answer = client.get(path, headers={"authorization": key} if key else {})
    assert "x-headrace-limit" not in answer.headers
    assert "x-headrace-known" not in answer.headers
    if answer.status_code == 503:
        assert_envelope(answer, 503, "service_unavailable")
        assert answer.headers["retry-after"] == "1"
        time.sleep(0.02)
    return answer.status_code


def limit(lone: LoneProxy, node: str) -> str:
    """Return how many requests HAProxy sends a node at a time."""
    return lone.statistics(node)["slim"]


def test_a_node_gets_no_more_than_it_asks_for(lone: LoneProxy) -> None:
    node = lone.add_node()
    httpx.get(f"{lone.url}/v1/limit/3/2")
    statuses = flood(lone, "/v1/limit/3/2")

    assert node.counting.most == 3
    assert statuses[200] > 30
    assert statuses[503] > 0
    assert set(statuses) == {200, 503}


def test_where_enough_may_wait_nothing_is_refused(lone: LoneProxy) -> None:
    node = lone.add_node()
    httpx.get(f"{lone.url}/v1/limit/3/50")
    statuses = flood(lone, f"/v1/limit/3/{CLIENTS}")

    assert node.counting.most == 3
    assert set(statuses) == {200}


def test_a_node_without_a_limit_takes_what_others_do_not(lone: LoneProxy) -> None:
    limited, free = lone.add_node(), lone.add_node()
    # Whichever node answers first.
    for _ in range(4):
        httpx.get(f"{lone.url}/v1/limit/1/1")
    eventually(lambda: limit(lone, free.name) == USUAL, seconds=2, what="both are free")
    free.says_limits = False
    statuses = flood(lone, "/v1/limit/1/1")

    assert set(statuses) == {200}
    assert limited.counting.most < free.counting.most


def test_a_nodes_limit_expires_soon(lone: LoneProxy) -> None:
    node = lone.add_node()
    httpx.get(f"{lone.url}/v1/limit/2/1")
    assert limit(lone, node.name) == "2"

    eventually(lambda: limit(lone, node.name) == USUAL, seconds=2, what="the usual limit")
    # Without the header nothing is refused either, however many come.
    assert set(flood(lone, "/v1/echo", seconds=0.3)) == {200}


def test_pages_and_cancels_are_not_refused(lone: LoneProxy) -> None:
    node = lone.add_node()
    httpx.get(f"{lone.url}/v1/limit/1/1")
    others: list[httpx.Response] = []

    def ask() -> None:
        with httpx.Client(base_url=lone.url) as client:
            for path in ("/admin/", "/v1/jobs/a/cancel", "/echo"):
                others.append(client.post(path))

    asking = threading.Timer(0.5, ask)
    asking.start()
    statuses = flood(lone, "/v1/limit/1/1", seconds=1.0)
    asking.join()

    assert statuses[503] > 0
    assert [answer.status_code for answer in others] == [200] * 3
    assert node.counting.most == 1
    # Each waits for the request that is at the node, and the few that may wait before it.
    assert max(answer.elapsed.total_seconds() for answer in others) < 0.5


def test_an_address_that_is_written_otherwise_is_no_way_around(lone: LoneProxy) -> None:
    lone.add_node()
    httpx.get(f"{lone.url}/v1/limit/1/1")
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=lone.url, timeout=10) as client:
            statuses.extend(client.get("/%761/echo").status_code for _ in range(10))

    asking = threading.Timer(0.3, ask)
    asking.start()
    flood(lone, "/v1/limit/1/1", seconds=1.0)
    asking.join()

    assert 503 in statuses


def test_nodes_are_heard_after_haproxy_was_frozen(lone: LoneProxy) -> None:
    """Its own clock stands still in the block, and the time of day goes on."""
    lone.add_node()
    assert lone.process is not None
    for _ in range(3):
        lone.process.send_signal(signal.SIGSTOP)
        time.sleep(0.6)
        lone.process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
    httpx.get(f"{lone.url}/v1/limit/1/1")

    assert flood(lone, "/v1/limit/1/1")[503] > 0


@pytest.mark.parametrize("nonsense", ["many", "-5/1", "1e9/1", "50", "1/2/3", "1234567/1", ""])
def test_nonsense_of_a_node_limits_nothing(lone: LoneProxy, nonsense: str) -> None:
    node = lone.add_node()

    assert httpx.get(f"{lone.url}/v1/limit/{nonsense}").status_code == 200
    assert limit(lone, node.name) == USUAL


@pytest.mark.parametrize(("asked", "given"), [("0/0", "1"), ("999999/1", USUAL)])
def test_a_limit_is_at_least_one_and_at_most_the_usual(
    lone: LoneProxy, asked: str, given: str
) -> None:
    node = lone.add_node()

    assert httpx.get(f"{lone.url}/v1/limit/{asked}").status_code == 200
    assert limit(lone, node.name) == given
    assert httpx.get(f"{lone.url}/v1/echo").status_code == 200


def send_beside_flood(
    lone: LoneProxy, *, flooding: Callable[[], str], key: Callable[[], str]
) -> Counter[int]:
    """Send some requests with a key while others flood; return their answers' statuses."""
    path = "/v1/limit/2/1"
    lone.add_node()
    # HAProxy learns by the answers which keys are known.
    with new_client(lone) as client:
        for known in ("Bearer attacker-known", "Bearer other-known"):
            send(client, path, key=known)
    is_over = threading.Event()
    refused = threading.Event()

    def run(client: httpx.Client) -> None:
        with client:
            while not is_over.is_set():
                if send(client, path, key=flooding()) == 503:
                    refused.set()

    with ThreadPoolExecutor(CLIENTS) as pool, new_client(lone) as client:
        floods = [pool.submit(run, new_client(lone)) for _ in range(CLIENTS)]
        assert refused.wait(20)
        statuses = Counter(send(client, path, key=key()) for _ in range(20))
        is_over.set()
        for flooded in floods:
            flooded.result()
    return statuses


def stranger() -> str:
    """Return a key that is none, another one each time."""
    return f"Bearer {uuid.uuid4()}"


def attacker() -> str:
    """Return an account's key, in one of the many ways to write it."""
    return random.choice(["Bearer ", "bearer  ", "BEARER "]) + "attacker-known"


@pytest.mark.parametrize("flooding", [attacker, stranger])
def test_no_flood_refuses_a_known_key(lone: LoneProxy, flooding: Callable[[], str]) -> None:
    others = send_beside_flood(lone, flooding=flooding, key=lambda: "Bearer other-known")
    assert others == {200: 20}


def test_no_account_refuses_a_new_key(lone: LoneProxy) -> None:
    assert send_beside_flood(lone, flooding=attacker, key=stranger) == {200: 20}
