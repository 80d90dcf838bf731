"""Nodes and workers that are restarted with other code and settings, under load."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.cluster import lock
from tests.fleet.cluster.rolling import (
    COMMAND_SECONDS,
    DRAIN_SECONDS,
    names,
    pids,
    run,
    states,
)
from tests.fleet.load import Load, StreamLoad
from tests.stack_plugin import MANAGE
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.own_stack import OwnStack

# Under `make test-faults`: all of it is load on processes that come and go, for minutes.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def test_a_rolling_restart_under_load_loses_nothing(three_nodes: OwnStack) -> None:
    run(three_nodes, "scale", "--workers", "1")
    before, worker = pids(three_nodes), three_nodes.part("worker1")["pid"]
    with Load(three_nodes) as load, StreamLoad(three_nodes, DRAIN_SECONDS / 4) as streams:
        run(three_nodes, "restart", "--rolling")

    after = pids(three_nodes)
    assert list(after) == ["node1", "node2", "node3"]
    assert not set(after.values()) & set(before.values())
    assert three_nodes.part("worker1")["pid"] != worker
    run(three_nodes, "scale", "--workers", "0")
    assert streams.whole > 10
    assert streams.failures == []
    assert load.failures == []


def test_new_code_that_does_not_start_changes_nothing(three_nodes: OwnStack) -> None:
    before = pids(three_nodes)
    (three_nodes.state_dir / "broken").write_text("node4")

    with Load(three_nodes) as load:
        failed = three_nodes.manage("cluster", "restart", "--rolling", seconds=COMMAND_SECONDS)

    assert failed.returncode == 1
    assert "node4 ended" in failed.stderr
    assert "The others run unchanged" in failed.stderr
    assert pids(three_nodes) == before
    assert load.failures == []


def test_the_first_node_that_does_not_start_again_ends_a_rolling_restart(
    three_nodes: OwnStack,
) -> None:
    before = pids(three_nodes)
    (three_nodes.state_dir / "broken").write_text("node2")

    with Load(three_nodes) as load:
        failed = three_nodes.manage("cluster", "restart", "--rolling", seconds=COMMAND_SECONDS)
        time.sleep(1)

    assert failed.returncode == 1
    assert "node2 is out of use; node4 runs instead of it; node3 run" in failed.stderr
    assert states(three_nodes)["node2"] == "stopped"
    assert pids(three_nodes)["node3"] == before["node3"]
    assert set(load.nodes) >= {"node1", "node3", "node4"}
    assert load.failures == []
    assert three_nodes.process is not None
    assert three_nodes.process.poll() is None

    (three_nodes.state_dir / "broken").unlink()
    run(three_nodes, "restart", "node2")
    assert set(states(three_nodes).values()) == {"ready"}


def test_a_restart_brings_in_a_setting_unless_no_node_starts_with_it(one_node: OwnStack) -> None:
    def environment() -> str:
        return Path(f"/proc/{pids(one_node)['node1']}/environ").read_text()

    run(one_node, "restart", "node1", "--set", "LLM_MODEL=openai:another")
    assert "LLM_MODEL=openai:another" in environment().split("\0")

    failed = one_node.manage(
        "cluster", "restart", "node1", "--set", "WEB_WORKERS=many", seconds=COMMAND_SECONDS
    )
    assert failed.returncode == 1
    assert "node2 ended" in failed.stderr
    run(one_node, "restart", "node1")
    assert "LLM_MODEL=openai:another" in environment().split("\0")
    assert "WEB_WORKERS" not in environment()


def test_a_worker_that_does_not_start_with_a_setting_runs_again_without(one_node: OwnStack) -> None:
    run(one_node, "scale", "--workers", "1")
    before = one_node.part("worker1")["pid"]

    failed = one_node.manage(
        "cluster", "restart", "worker1", "--set", "JOB_CONCURRENCY=many", seconds=COMMAND_SECONDS
    )

    assert failed.returncode == 1
    assert "worker1 runs again with its previous settings" in failed.stderr
    worker = one_node.part("worker1")
    assert (worker["state"], worker["pid"] == before) == ("ready", False)
    assert "JOB_CONCURRENCY" not in Path(f"/proc/{worker['pid']}/environ").read_text()
    run(one_node, "scale", "--nodes", "2", "--workers", "0")
    run(one_node, "scale", "--nodes", "1")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_setting_is_forgotten_when_the_restart_is_interrupted(
    one_node: OwnStack, how: signal.Signals
) -> None:
    arguments = (
        "cluster",
        "restart",
        "--rolling",
        "--set",
        "DATABASE_URL=postgres://127.0.0.1:9/x",
    )
    with subprocess.Popen(
        [*MANAGE, *arguments],
        env={**one_node.env, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        while "node2: starting" not in (line := command.stdout.readline()):
            assert line
        eventually(lambda: "node2" in names(one_node), seconds=30, what="it is being started")
        command.send_signal(how)
        _, errors = command.communicate(timeout=30)

    if how == signal.SIGINT:
        assert command.returncode == 1
        assert "Interrupted" in errors
        assert "Traceback" not in errors
        run(one_node, "scale", "--nodes", "2")
    else:
        # No command removed what was being started.
        run(one_node, "restart", "node2")
    assert states(one_node) == {"node1": "ready", "node2": "ready"}
    run(one_node, "scale", "--nodes", "1")


def test_two_commands_cannot_mix(one_node: OwnStack) -> None:
    with lock.hold(one_node.state_dir / "run/fleet.lock"):
        refused = one_node.manage("cluster", "scale", "--nodes", "2")

    assert refused.returncode == 1
    assert "Another command changes the nodes" in refused.stderr
