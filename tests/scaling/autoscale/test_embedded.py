"""The autoscaler of a stack of its own."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.scaling.conftest import QUICK, OwnStack, eventually

POLICIES = """
[web]
minimum = {minimum}
maximum = 3
cooldown_up_seconds = 0
cooldown_down_seconds = 0
step_limit = 2
stale_seconds = 30
[[web.rules]]
measure = "cpu_percent"
above = 100000
for_seconds = 600
add = 1
[[web.rules]]
measure = "requests_per_minute"
below = 100000
for_seconds = {patience}
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


def policies(tmp_path: Path, *, minimum: int, patience: float = 600) -> dict[str, str]:
    """Return the environment with a file of policies."""
    path = tmp_path / "policies.toml"
    path.write_text(POLICIES.format(minimum=minimum, patience=patience), encoding="utf-8")
    return {"AUTOSCALE_POLICIES": str(path), "AUTOSCALE_SECONDS": "0.5"}


def nodes(stack: OwnStack) -> list[str]:
    """Return the states of the nodes."""
    return [part["state"] for part in stack.status()["parts"] if part["kind"] == "node"]


def test_the_stack_runs_its_own_autoscaler(
    make_stack: Callable[..., OwnStack], tmp_path: Path
) -> None:
    stack = make_stack(*QUICK, "--workers=0", "--autoscale", env=policies(tmp_path, minimum=1))
    stack.start()
    eventually(
        lambda: metric(stack, "headrace_autoscale_leader") == 1, seconds=60, what="it is at work"
    )
    assert metric(stack, 'headrace_autoscale_size{fleet="web"}') == 1
    second = stack.manage("autoscale", "--once", env={"AUTOSCALE_SECONDS": "0.1"})
    assert second.returncode == 1
    assert "another autoscaler is at work" in second.stdout
    processes = stack.processes()
    assert stack.stop() < 10
    assert not [process for process in processes if process.is_running()]
    assert "stopping autoscaler" in stack.output()


@pytest.mark.skipif(
    importlib.util.find_spec("scaling.cluster.scale") is None,
    reason="this release has no `cluster scale`",
)
def test_nodes_come_and_go_by_policy(make_stack: Callable[..., OwnStack], tmp_path: Path) -> None:
    env = policies(tmp_path, minimum=2)
    stack = make_stack(*QUICK, "--workers=0", "--autoscale", env=env)
    stack.start()
    # Below the minimum, so at once.
    eventually(lambda: nodes(stack) == ["ready"] * 2, seconds=90, what="a second node")
    assert stack.answers()
    # Another autoscaler with other policies waits, and takes over.
    policies(tmp_path, minimum=1, patience=1)
    stack.part("autoscaler")
    pid = stack.part("autoscaler")["pid"]
    next(process for process in stack.processes() if process.pid == pid).terminate()
    eventually(lambda: nodes(stack) == ["ready"], seconds=90, what="the second node goes")
    told = stack.manage("autoscale", "history").stdout
    assert "1 -> 2" in told
    assert "below the minimum of 2" in told
    assert "2 -> 1" in told
    assert stack.answers()
