"""Nodes that are added, drained and removed while clients notice nothing, under load.

Tests that need as many nodes are together: each start of a node takes a processor for seconds.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fleet.cluster.rolling import DRAIN_SECONDS, SETTLE_SECONDS, names, run, states
from tests.fleet.load import Load, OpenStream
from tests.fleet.streams import DirectClient
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.own_stack import OwnStack

# Under `make test-faults`: all of it is load on processes that come and go, for minutes.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


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
