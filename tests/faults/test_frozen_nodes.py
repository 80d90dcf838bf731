"""Requests of a frozen node end within ten seconds; a node that drains or is busy loses nothing."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.stack_plugin import BASE_DIR
from tests.support.lone_proxy import BINARIES, LoneProxy, find_binary
from tests.support.waiting import eventually, slack

# Promised are ten, on a machine with nothing else to do.
BOUND_SECONDS = 13.0
NODES = 3

pytestmark = pytest.mark.timeout(120)


@dataclass
class Outcome:
    """A client's result: a status, or None when its connection was closed, and its seconds."""

    status: int | None
    code: str | None
    seconds: float


@pytest.fixture(params=BINARIES)
def lone(request: pytest.FixtureRequest) -> Iterator[LoneProxy]:
    proxy = LoneProxy(find_binary(request.param), {"PROXY_SLOW_START": "0"})
    proxy.start()
    yield proxy
    proxy.close()


@pytest.fixture
def processes(lone: LoneProxy) -> Iterator[list[subprocess.Popen[str]]]:
    """Nodes in processes of their own."""
    command = [sys.executable, "-m", "tests.support.fake_node"]
    made: list[subprocess.Popen[str]] = []
    for number in range(1, NODES + 1):
        name = f"node{number}"
        process = subprocess.Popen(
            [*command, name], cwd=BASE_DIR, stdout=subprocess.PIPE, text=True
        )
        made.append(process)
        assert process.stdout is not None
        lone.api.add(name, host="127.0.0.1", port=int(process.stdout.readline()))
    yield made
    for process in made:
        process.kill()
        process.wait()


def ask(lone: LoneProxy, method: str, path: str, *, is_first: bool, **headers: str) -> Outcome:
    """Send a request, after another one on the same connection if it is not to be the first."""
    with httpx.Client(base_url=lone.url, timeout=60) as client:
        if not is_first:
            client.get("/echo")
        began = time.monotonic()
        status, code = None, None
        with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):
            answer = client.request(method, path, headers=headers)
            status = answer.status_code
            code = answer.json()["error"]["code"] if status >= 400 else None
        return Outcome(status, code, time.monotonic() - began)


def read_stream(lone: LoneProxy) -> float:
    """Return how long a stream lasted."""
    began = time.monotonic()
    with (
        contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError),
        httpx.stream("GET", f"{lone.url}/stream", timeout=60) as answer,
    ):
        for _ in answer.iter_raw():
            pass
    return time.monotonic() - began


def are_up(lone: LoneProxy, count: int) -> None:
    def is_so() -> bool:
        return lone.statistics("BACKEND")["act"] == str(count)

    eventually(is_so, seconds=15, what=f"{count} nodes are up")


def at_node(lone: LoneProxy, name: str) -> int:
    return int(lone.statistics(name)["scur"])


@pytest.mark.parametrize("frozen", [1, 2])
def test_what_a_frozen_node_has_ends_and_the_others_go_on(
    lone: LoneProxy, processes: list[subprocess.Popen[str]], frozen: int
) -> None:
    are_up(lone, 3)
    with ThreadPoolExecutor(40) as threads:

        def start(work: Callable[..., Any], *arguments: Any, **options: Any) -> list[Future[Any]]:
            # The least busy node is next, so that each has as many.
            begun = []
            for _ in range(NODES):
                begun.append(threads.submit(work, lone, *arguments, **options))
                time.sleep(0.15)
            return begun

        first = start(ask, "POST", "/wait", is_first=True)
        later = start(ask, "POST", "/wait", is_first=False)
        streams = start(read_stream)
        assert sum(at_node(lone, f"node{n}") for n in range(1, NODES + 1)) == 3 * NODES
        has = [at_node(lone, f"node{n}") for n in range(1, frozen + 1)]
        assert min(has) >= 1
        for process in processes[:frozen]:
            process.send_signal(signal.SIGSTOP)
        began = time.monotonic()

        def are_over() -> int:
            return sum(future.done() for future in [*first, *later, *streams])

        eventually(lambda: are_over() >= sum(has), seconds=BOUND_SECONDS, what="they are over")
        assert time.monotonic() - began < slack(BOUND_SECONDS)
        time.sleep(1)
        # Those at other nodes last.
        assert are_over() == sum(has)
        assert httpx.get(f"{lone.url}/echo").status_code == 200

        outcomes = [future.result() for future in first if future.done()]
        assert all((one.status, one.code) == (502, "bad_gateway") for one in outcomes)
        # A connection that the node had used before is closed instead.
        outcomes = [future.result() for future in later if future.done()]
        assert {(one.status, one.code) for one in outcomes} <= {(502, "bad_gateway"), (None, None)}

        for process in processes[:frozen]:
            process.send_signal(signal.SIGCONT)
        are_up(lone, 3)
        for process in processes:
            process.kill()


def test_what_may_be_repeated_is_answered_by_another_node(
    lone: LoneProxy, processes: list[subprocess.Popen[str]]
) -> None:
    are_up(lone, 3)
    processes[0].send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(12) as threads:
        # The checks do not know yet, so that a third of these come to the frozen node.
        asked = [
            threads.submit(ask, lone, method, "/echo", is_first=True, **headers)
            for method, headers in [("GET", {}), ("POST", {"idempotency-key": "a"})] * 6
        ]
        outcomes = [future.result() for future in asked]

    assert [one.status for one in outcomes] == [200] * 12
    assert 2 < max(one.seconds for one in outcomes) < slack(BOUND_SECONDS)


def test_nodes_that_drain_or_are_busy_lose_nothing(lone: LoneProxy) -> None:
    draining, busy = lone.add_node(), lone.add_node()
    with ThreadPoolExecutor(8) as threads:
        asked: list[Future[Any]] = []
        for _ in range(2):
            asked.append(threads.submit(read_stream, lone))
            time.sleep(0.2)
        waiting = threads.submit(ask, lone, "POST", "/wait", is_first=True)
        eventually(lambda: lone.statistics("BACKEND")["scur"] == "3", seconds=5, what="three run")
        assert at_node(lone, busy.name) >= 1
        draining.check_status = 503
        # Later than HAProxy waits; its streams go on.
        busy.check_seconds = 3.0
        eventually(
            lambda: lone.statistics("BACKEND")["act"] == "0", seconds=15, what="both are out"
        )
        time.sleep(12)

        assert not any(future.done() for future in [*asked, waiting])
        lone.kill()
