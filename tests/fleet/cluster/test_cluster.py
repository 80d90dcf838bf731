"""The embedded stack as its users see it: one stack, up and running."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.own_stack import OwnStack


@pytest.fixture(scope="module")
def running(make_stack: Callable[..., OwnStack]) -> OwnStack:
    """A stack with two nodes and a replica."""
    own = make_stack("--no-llm", "--nodes=2", "--replicas=1")
    own.start()
    return own


def test_status_names_every_part_with_its_state_and_address(running: OwnStack) -> None:
    status = json.loads(running.manage("cluster", "status", "--json").stdout)

    assert status["url"] == running.url
    assert [(part["name"], part["kind"]) for part in status["parts"]] == [
        ("postgres1", "primary"),
        ("postgres2", "replica"),
        ("redis", "redis"),
        ("worker1", "worker"),
        ("node1", "node"),
        ("node2", "node"),
        ("haproxy", "haproxy"),
    ]
    for part in status["parts"]:
        assert set(part) == {
            "name",
            "kind",
            "state",
            "pid",
            "address",
            "uptime_seconds",
            "restarts",
        }
        assert part["state"] == "ready"
        assert part["address"].startswith("127.0.0.1:")
        assert part["uptime_seconds"] >= 0
        assert part["restarts"] == 0
        os.kill(part["pid"], 0)


def test_the_session_stack_runs_the_local_model_too(stack: OwnStack) -> None:
    assert stack.part("llm")["state"] == "ready"


def test_a_newcomer_sees_a_line_a_part_and_then_all_that_is_needed(running: OwnStack) -> None:
    output = running.output()

    for name in ("postgres1", "postgres2", "redis", "node1", "node2", "haproxy"):
        assert f"{name:<9} | ready at 127.0.0.1:" in output
    for word in (running.url, running.admin_password, running.demo_key, "curl", "admin"):
        assert word in output
    assert "\x1b[" not in output


def test_what_was_printed_works(running: OwnStack) -> None:
    assert running.answers()


def test_a_command_in_another_terminal_finds_the_stack(running: OwnStack) -> None:
    found = running.manage("apikey", "list")

    assert found.returncode == 0, found.stderr
    assert "demo" in found.stdout


def test_secrets_are_readable_by_their_owner_alone(running: OwnStack) -> None:
    for name in (
        "stack.env",
        "secrets.json",
        "run/redis.conf",
        "run/pgpass",
        "run/database.url",
        "run/replicas.urls",
    ):
        assert (running.state_dir / name).stat().st_mode & 0o077 == 0, name
    assert running.state_dir.stat().st_mode & 0o077 == 0


def test_a_row_written_on_the_primary_is_read_on_the_replica_through_its_slot(
    running: OwnStack,
) -> None:
    replica_url = running.replica_urls["postgres2"]
    with psycopg.connect(running.database_url, autocommit=True) as primary:
        primary.execute("CREATE TABLE seen (word text)")
        primary.execute("INSERT INTO seen VALUES ('headrace')")
        slots = primary.execute(
            "SELECT slot_name, active FROM pg_replication_slots WHERE slot_type = 'physical'"
        ).fetchall()
    assert slots == [("postgres2", True)]

    def is_there() -> bool:
        with psycopg.connect(replica_url) as replica:
            has_table = replica.execute("SELECT to_regclass('seen')").fetchone()
            return bool(has_table and has_table[0]) and replica.execute(
                "SELECT word FROM seen"
            ).fetchone() == ("headrace",)

    eventually(is_there, seconds=5, what="the row is on the replica")


@pytest.mark.parametrize("name", ["node1", "redis", "haproxy", "postgres2", "postgres1"])
def test_a_killed_process_is_restarted_and_counted(running: OwnStack, name: str) -> None:
    before = running.part(name)

    os.kill(before["pid"], signal.SIGKILL)

    def is_back() -> bool:
        part = running.part(name)
        return part["state"] == "ready" and part["pid"] != before["pid"] and part["restarts"] == 1

    eventually(is_back, seconds=15, what=f"{name} is back")
    eventually(running.answers, seconds=10, what="requests are answered")
    assert f"{name:<9} | died" in running.output()


def test_requests_go_on_when_one_of_two_nodes_is_killed(running: OwnStack) -> None:
    eventually(lambda: has_ready_nodes(running, 2), seconds=15, what="both nodes are ready")
    # Both database servers were killed just before, and both nodes must have found them again.
    eventually(
        lambda: all(running.answers() for _ in range(20)), seconds=15, what="all is well again"
    )
    failures: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            if (answer := running.get("/v1/models")).status_code != 200:
                failures.append(answer.text)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    os.kill(running.part("node2")["pid"], signal.SIGKILL)
    time.sleep(2)
    is_over.set()
    asking.join()

    # The request that was inside the killed node is lost; every other one is answered.
    assert len(failures) <= 1, failures


def test_haproxy_has_its_nodes_again_after_it_was_killed_under_load(
    running: OwnStack,
) -> None:
    before = running.part("haproxy")["restarts"]
    os.kill(running.part("haproxy")["pid"], signal.SIGKILL)

    eventually(running.answers, seconds=5, what="requests are answered")
    eventually(
        lambda: running.part("haproxy")["restarts"] == before + 1, seconds=5, what="it is counted"
    )
    eventually(lambda: has_ready_nodes(running, 2), seconds=10, what="both nodes are ready")


def test_a_second_up_names_the_running_one(running: OwnStack) -> None:
    second = running.manage("cluster", "up")

    assert second.returncode == 1
    assert f"process {running.record()['pid']}" in second.stderr
    assert running.answers()


def has_ready_nodes(own: OwnStack, count: int) -> bool:
    """Return whether that many nodes are ready."""
    parts = own.status()["parts"]
    return sum(part["kind"] == "node" and part["state"] == "ready" for part in parts) == count
