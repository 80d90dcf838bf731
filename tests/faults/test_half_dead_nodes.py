"""Nodes of a stack of which one half hangs: what they have begun goes on, the rest is others'."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.faults.chains import DEAF_SECONDS
from tests.faults.harness import Faults
from tests.faults.test_frozen_nodes import BOUND_SECONDS, Outcome
from tests.support.calls import chat_body
from tests.support.proxy_statistics import read_nodes
from tests.support.waiting import eventually, slack

pytestmark = pytest.mark.timeout(120, func_only=True)


def test_nodes_whose_masters_alone_are_frozen_serve_on(faults: Faults) -> None:
    with contextlib.ExitStack() as stack:
        masters = faults.pids("node")
        assert len(masters) == 2
        for pid in masters:
            stack.enter_context(faults.frozen(pid))
        jobs = faults.post_many(10, mark="half", chain="quick")
        assert {faults.http.get("/v1/models").status_code for _ in range(20)} == {200}
        faults.wait_for_all()
        faults.check(jobs)


def test_a_node_that_accepts_no_connection_takes_nothing_along(faults: Faults) -> None:
    headers = {"Authorization": f"Bearer {faults.stack.demo_key}"}

    def stream(has_begun: threading.Event) -> str:
        body = chat_body("deaf", stream=True)
        with faults.http.stream("POST", "/v1/chat/completions", json=body, timeout=60) as response:
            lines = []
            for line in response.iter_lines():
                lines.append(line)
                has_begun.set()
            return "".join(lines)

    def create(number: int) -> Outcome:
        # The first request of its connection, which HAProxy may not repeat.
        began = time.monotonic()
        made = httpx.post(
            f"{faults.stack.url}/v1/conversations",
            json={"chain": "quick", "metadata": {"test": "deaf", "number": str(number)}},
            headers=headers,
            timeout=60,
        )
        code = made.json()["error"]["code"] if made.status_code >= 400 else None
        return Outcome(made.status_code, code, time.monotonic() - began)

    def nodes_up() -> str:
        return read_nodes(faults.stack.private_url)["BACKEND"]["act"]

    eventually(lambda: nodes_up() == "2", seconds=15, what="both nodes are up")
    has_begun = threading.Event()
    with ThreadPoolExecutor(13) as threads:
        streamed = threads.submit(stream, has_begun)
        assert has_begun.wait(slack(10))
        outcomes = list(threads.map(create, range(12)))
        eventually(lambda: nodes_up() == "1", seconds=10, what="the other node alone is up")
        # Some came to the node before HAProxy knew.
        assert max(one.seconds for one in outcomes) > 1
        assert max(one.seconds for one in outcomes) < slack(BOUND_SECONDS)
        assert {(one.status, one.code) for one in outcomes} <= {(201, None), (502, "bad_gateway")}
        assert {create(number).status for number in range(12, 24)} == {201}
        assert not streamed.done()
        # What the node had begun goes on to its end.
        assert f"{DEAF_SECONDS - 1} " in streamed.result()
        assert "[DONE]" in streamed.result()
    eventually(lambda: nodes_up() == "2", seconds=15, what="the node is back")
    (made,) = faults.query(
        "SELECT count(*) FROM chat_conversation WHERE metadata->>'test' = 'deaf'"
    )
    # The node reads what had waited for it when it accepts again: a 502 may have been carried out.
    assert 12 + sum(one.status == 201 for one in outcomes) <= made[0] <= 24
