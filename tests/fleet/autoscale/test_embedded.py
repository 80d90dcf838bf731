"""The autoscaler of a stack of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.own_stack import QUICK, OwnStack
from tests.support.waiting import eventually

# Complete stacks that start and stop take long.
pytestmark = pytest.mark.faults

POLICIES = """
[web]
minimum = 1
maximum = 2
cooldown_up_seconds = 0
cooldown_down_seconds = 0
step_limit = 1
stale_seconds = 30
[[web.rules]]
measure = "requests_per_minute"
above = 120
for_seconds = 1
add = 1
[[web.rules]]
measure = "requests_per_minute"
below = 50
for_seconds = 3
remove = 1
"""


def metric(stack: OwnStack, name: str) -> float | None:
    """Return a figure of the stack's autoscaler, None while it does not answer."""
    try:
        text = httpx.get(f"http://{stack.part('autoscaler')['address']}/metrics", timeout=5).text
    except (StopIteration, httpx.TransportError):
        return None
    match = re.search(rf"^{re.escape(name)} (\S+)", text, re.MULTILINE)
    return float(match[1]) if match else None


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the settings of a stack with these policies."""
    path = tmp_path / "policies.toml"
    path.write_text(POLICIES, encoding="utf-8")
    return {"AUTOSCALE_POLICIES": str(path), "AUTOSCALE_SECONDS": "0.5"}


def nodes(stack: OwnStack) -> list[str]:
    """Return the states of the nodes."""
    return [part["state"] for part in stack.status()["parts"] if part["kind"] == "node"]


def test_the_stack_runs_its_own_autoscaler(
    make_stack: Callable[..., OwnStack], environment: dict[str, str]
) -> None:
    stack = make_stack(*QUICK, "--workers=0", "--autoscale", env=environment)
    stack.start()
    eventually(
        lambda: metric(stack, "headrace_autoscale_leader") == 1, seconds=60, what="it is at work"
    )
    assert metric(stack, 'headrace_autoscale_size{fleet="web"}') == 1
    second = stack.manage("autoscale", "--once", env={"AUTOSCALE_SECONDS": "0.1"})
    assert second.returncode == 1
    assert "another autoscaler holds the lease" in second.stdout
    processes = stack.processes()
    assert stack.stop() < 10
    assert not [process for process in processes if process.is_running()]
    assert "stopping autoscaler" in stack.output()


def test_nodes_come_and_go_with_the_load(
    make_stack: Callable[..., OwnStack], environment: dict[str, str]
) -> None:
    stack = make_stack(*QUICK, "--workers=0", "--autoscale", env=environment)
    stack.start()

    def two_nodes_under_load() -> bool:
        for _ in range(5):
            assert stack.answers()
        return nodes(stack) == ["ready", "ready"]

    eventually(two_nodes_under_load, seconds=90, what="a second node")
    eventually(lambda: nodes(stack) == ["ready"], seconds=90, what="the second node goes")
    assert stack.answers()
    output = stack.manage("autoscale", "history").stdout
    assert re.search(r"web +up +1 -> 2 +requests_per_minute was \S+ for 1 s, above 120", output)
    assert re.search(r"web +down +2 -> 1 +requests_per_minute was \S+ for 3 s, below 50", output)
