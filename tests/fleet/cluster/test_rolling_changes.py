"""Nodes that come and go while clients notice nothing: one stack of its own, under load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from fleet.cluster import lock
from tests.fleet.chains import NAMES
from tests.fleet.load import Load, OpenStream, StreamLoad
from tests.fleet.streams import DirectClient
from tests.stack_plugin import MANAGE
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.own_stack import OwnStack

# Under `make test-faults`: all of it is load on processes that come and go, for minutes.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

DRAIN_SECONDS = 5.0
SETTLE_SECONDS = 3.0
COMMAND_SECONDS = 300
ENV = {
    "CHAIN_RUNNABLES": ",".join(f"{name}=tests.fleet.chains.{name}" for name in NAMES),
    "CHAIN_CACHE_SECONDS": "0.2",
    "DRAIN_SECONDS": str(DRAIN_SECONDS),
    "DRAIN_SETTLE_SECONDS": str(SETTLE_SECONDS),
    "EMBEDDED_WSGI": "tests.fleet.slow_wsgi",
    "STREAM_HEARTBEAT_SECONDS": "1",
}


@pytest.fixture(scope="module")
def fleet(make_stack: Callable[..., OwnStack]) -> OwnStack:
    """A stack of one node, which every test leaves with one, and its name is node1."""
    own = make_stack("--no-llm", "--nodes=1", "--replicas=0", "--workers=0", env=ENV)
    own.start()
    for name in NAMES:
        made = own.run("chains", "add", name, "--runnable", name)
        assert made.returncode == 0, made.stderr
    return own


@pytest.fixture
def one_node(fleet: OwnStack) -> Iterator[OwnStack]:
    """The stack, brought back to one node."""
    yield fleet
    (fleet.state_dir / "broken").unlink(missing_ok=True)
    if names(fleet) != ["node1"]:
        run(fleet, "restart", "node1")
        run(fleet, "scale", "--nodes", "1")


@pytest.fixture
def three_nodes(one_node: OwnStack) -> OwnStack:
    """The stack with three nodes."""
    run(one_node, "scale", "--nodes", "3")
    return one_node


def run(own: OwnStack, *arguments: str) -> str:
    """Run a verb of `cluster`; it must succeed."""
    done = own.manage("cluster", *arguments, seconds=COMMAND_SECONDS)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{own.output()[-3000:]}"
    return done.stdout


def names(own: OwnStack) -> list[str]:
    """Return the names of the nodes."""
    return [part["name"] for part in own.status()["parts"] if part["kind"] == "node"]


def states(own: OwnStack) -> dict[str, str]:
    """Return the nodes' states."""
    return {p["name"]: p["state"] for p in own.status()["parts"] if p["kind"] == "node"}


def pids(own: OwnStack) -> dict[str, int]:
    """Return the nodes' processes."""
    return {p["name"]: p["pid"] for p in own.status()["parts"] if p["kind"] == "node"}


def test_nodes_are_added_and_removed_under_load_without_an_error(one_node: OwnStack) -> None:
    with Load(one_node) as load:
        more = json.loads(run(one_node, "scale", "--nodes", "3", "--workers", "1", "--json"))
        time.sleep(1)
        spread = set(load.nodes)
        less = run(one_node, "scale", "--nodes", "1", "--workers", "0")
        time.sleep(0.5)

    assert more == {"nodes": ["node1", "node2", "node3"], "workers": ["worker1"]}
    assert spread == {"node1", "node2", "node3"}
    assert less.splitlines()[-1] == "1 node, 0 workers"
    assert names(one_node) == ["node1"]
    assert load.failures == []


def test_what_cannot_be_is_refused(one_node: OwnStack) -> None:
    for arguments, code, why in (
        (("scale",), 2, "Set the number"),
        (("scale", "--nodes", "\N{ARABIC-INDIC DIGIT THREE}"), 2, "must be a number from 1 to"),
        (("drain", "node9"), 1, "There is no node or worker node9"),
        (("drain", "node1"), 1, "No other node than node1"),
        (("restart",), 2, "Name a node or worker"),
    ):
        refused = one_node.manage("cluster", *arguments)
        assert refused.returncode == code
        assert why in refused.stderr


def test_a_drained_node_finishes_what_it_has_and_gets_nothing_new(three_nodes: OwnStack) -> None:
    streams = [OpenStream(three_nodes, 6) for _ in range(3)]

    run(three_nodes, "drain", "node2")

    with Load(three_nodes) as load:
        time.sleep(1)
    # A node with more streams than the other may get none of so few.
    assert load.nodes
    assert "node2" not in load.nodes
    assert states(three_nodes) == {"node1": "ready", "node2": "draining", "node3": "ready"}
    for stream in streams:
        stream.join()
    assert all(stream.is_complete for stream in streams)

    run(three_nodes, "undrain", "node2")

    with Load(three_nodes) as load:
        eventually(lambda: len(load.nodes) == 3, seconds=10, what="all nodes answer")
    assert load.failures == []


def test_a_drained_node_is_the_first_to_leave(three_nodes: OwnStack) -> None:
    run(three_nodes, "drain", "node1")

    with Load(three_nodes) as load:
        run(three_nodes, "scale", "--nodes", "1")
        time.sleep(1)

    assert states(three_nodes) == {"node2": "ready"}
    assert load.failures == []
    run(three_nodes, "scale", "--nodes", "2")
    run(three_nodes, "drain", "node2")
    run(three_nodes, "scale", "--nodes", "1")


def test_a_stream_that_outlives_the_drain_ends_with_an_error_event(three_nodes: OwnStack) -> None:
    long = [OpenStream(three_nodes, 60) for _ in range(3)]
    short = [OpenStream(three_nodes, 2) for _ in range(3)]

    began = time.monotonic()
    run(three_nodes, "restart", "node2")

    assert time.monotonic() - began > DRAIN_SECONDS
    cut = [stream for stream in long if not stream.is_alive()]
    assert len(cut) == 1
    assert cut[0].failure == ""
    assert cut[0].lasted_seconds > DRAIN_SECONDS
    assert cut[0].error["code"] == "server_draining"
    assert cut[0].error["type"] == "overloaded_error"
    assert cut[0].error["should_retry"] is True
    for stream in short:
        stream.join()
    assert all(stream.is_complete for stream in short)


def test_every_api_has_an_error_event_for_a_node_that_stops(one_node: OwnStack) -> None:
    run(one_node, "scale", "--nodes", "2")
    asked = DirectClient(one_node, "node2").ask()
    time.sleep(1)

    run(one_node, "scale", "--nodes", "1")

    said = {name: answer.result(timeout=30) for name, answer in asked.items()}
    whole = said.pop("whole")
    assert whole.status_code == 503
    assert whole.json()["error"]["code"] == "server_draining"
    assert whole.headers["x-should-retry"] == "true"
    assert whole.headers["retry-after"] == "1"
    assert whole.headers["connection"] == "close"
    name, data = said.pop("langserve")
    assert (name, data["status_code"]) == ("error", 503)
    name, data = said.pop("responses")
    assert (name, data["type"], data["code"]) == ("error", "error", "server_draining")
    assert said.pop("completions")[1]["error"]["code"] == "server_draining"
    assert {api: (name, data["error"]["code"]) for api, (name, data) in said.items()} == {
        "conversations": ("error", "server_draining"),
        "jobs": ("error", "server_draining"),
    }


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


def test_a_node_is_not_ready_before_it_stops(one_node: OwnStack) -> None:
    run(one_node, "scale", "--nodes", "2")
    address = one_node.part("node2")["address"]
    readiness: list[tuple[int, str]] = []
    served: list[int] = []
    with httpx.Client(base_url=f"http://{address}") as client:
        client.get("/health/live")
        os.kill(one_node.part("node2")["pid"], signal.SIGTERM)
        began = time.monotonic()
        while time.monotonic() - began < SETTLE_SECONDS - 0.5:
            answer = client.get("/health/ready")
            readiness.append((answer.status_code, answer.headers["connection"]))
            served.append(client.get("/health/live").status_code)
            time.sleep(0.1)

    # It gets the stop signal at once, and handles it a moment later.
    assert (503, "close") in readiness[:8]
    assert readiness[-1] == (503, "close")
    assert set(served) == {200}
    eventually(lambda: states(one_node)["node2"] == "ready", seconds=30, what="it is back")
