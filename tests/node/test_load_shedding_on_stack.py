"""A node with more requests than it can handle: which it refuses, and what goes on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fleet.load import OpenStream
from tests.support.calls import chat_body, client_with

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.own_stack import OwnStack

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

CHAINS = ("burn", "hello", "ticks")
CLIENTS = 100
SECONDS = 10.0


class Flood:
    """Clients that send the next request as soon as the last is answered."""

    def __init__(self, stack: OwnStack) -> None:
        self.answers: Counter[str] = Counter()
        self.strange: list[str] = []
        self._stack = stack
        self._until = time.monotonic() + SECONDS

    def run(self) -> None:
        """Flood for SECONDS."""
        threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask(self) -> None:
        with client_with(self._stack, self._stack.demo_key) as client:
            while time.monotonic() < self._until:
                try:
                    answer = client.post("/v1/chat/completions", json=chat_body("burn"))
                except httpx.HTTPError as error:
                    self.strange.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.answers["good"] += 1
                elif answer.status_code == 503 and "retry-after" in answer.headers:
                    self.answers[answer.json()["error"]["code"]] += 1
                    # What is refused costs next to nothing; the clients would have all of the CPU.
                    time.sleep(0.1)
                else:
                    self.strange.append(answer.text)


@pytest.fixture
def node(make_stack: Callable[..., OwnStack]) -> OwnStack:
    """A stack of one node, with chains that compute, wait and answer at once."""
    runnables = ",".join(f"{name}=tests.fleet.chains.{name}" for name in CHAINS)
    env = {"CHAIN_RUNNABLES": runnables, "OVERLOAD_DELAY_SECONDS": "0.05"}
    own = make_stack("--no-llm", "--nodes=1", "--replicas=0", "--workers=0", env=env)
    own.start()
    for name in CHAINS:
        made = own.run("chains", "add", name, "--runnable", name)
        assert made.returncode == 0, made.stderr
    return own


def test_what_would_be_late_is_refused_and_all_else_goes_on(node: OwnStack) -> None:
    stream = OpenStream(node, SECONDS)
    flood = Flood(node)
    flood.run()
    calm_by = time.monotonic() + 5
    stream.join()

    assert flood.strange == []
    assert flood.answers["good"] > 100
    # By the node, and by HAProxy in its stead.
    assert flood.answers["overloaded"] > 0
    assert set(flood.answers) <= {"good", "overloaded", "service_unavailable"}
    assert stream.is_complete
    [part] = [part for part in node.status()["parts"] if part["kind"] == "node"]
    assert part["state"] == "ready"
    assert part["restarts"] == 0
    metrics = httpx.get(f"http://{part['address']}/metrics", timeout=5).text
    assert "headrace_overload_refused_total 0.0" not in metrics
    with client_with(node, node.demo_key) as client:
        while (
            status := client.post("/v1/chat/completions", json=chat_body("hello")).status_code
        ) == 503:
            assert time.monotonic() < calm_by
            time.sleep(0.1)
    assert status == 200
