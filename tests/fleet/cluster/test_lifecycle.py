"""The embedded stack's beginning and end, the orderly and the others."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.stack_plugin import MANAGE, EmbeddedStack, StackFailed
from tests.support.own_stack import QUICK, OwnStack
from tests.support.waiting import eventually, slack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Not hard to break, but complete stacks that start and stop take minutes.
pytestmark = pytest.mark.faults


def assert_gone(processes: list[psutil.Process]) -> None:
    """Fail when one of the processes still lives."""
    left = [process for process in processes if process.is_running() and not is_zombie(process)]
    assert not left, left


def is_zombie(process: psutil.Process) -> bool:
    """Return whether only the parent's wait is missing."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def own(make_stack: Callable[..., OwnStack]) -> OwnStack:
    """A stack whose data every test here finds again; each starts it and leaves it stopped."""
    return make_stack()


def test_sigterm_stops_everything_in_order_within_ten_seconds(own: OwnStack) -> None:
    own.arguments = ("--no-llm", "--nodes=2", "--replicas=2")
    own.start()
    processes = own.processes()
    # Two nodes with a worker each, HAProxy, Redis, three PostgreSQL servers, and supervisord.
    assert len(processes) > 8
    port = int(own.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as idle:
        # A client that does not let go must not hold up the end.
        idle.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n")
        seconds = own.stop(signal.SIGTERM)

    assert seconds < slack(10)
    assert own.process is not None
    assert own.process.returncode == 0
    assert_gone(processes)
    assert not (own.state_dir / "stack.env").exists()
    stopped = own.output().split("stopping ")[1:]
    assert [line.splitlines()[0] for line in stopped] == [
        "haproxy",
        "node1, node2",
        "worker1",
        "redis",
        "postgres2, postgres3",
        "postgres1",
    ]


def test_status_reports_that_no_stack_is_running(own: OwnStack) -> None:
    status = own.manage("cluster", "status", "--json")

    assert status.returncode == 1
    assert json.loads(status.stdout) == {"url": None, "parts": []}
    assert "No stack is running" in status.stderr
    assert "No stack is running" in own.manage("cluster", "down").stdout


def test_later_starts_reuse_the_data_and_down_works_from_another_terminal(own: OwnStack) -> None:
    password, key = own.admin_password, own.demo_key
    # One replica fewer; and one that is copied again because its slot was dropped.
    for count, copied in ((1, []), (2, ["postgres3"])):
        own.arguments = ("--no-llm", "--nodes=1", f"--replicas={count}")
        own.start()
        processes = own.processes()
        assert own.answers()
        assert "created a new database" not in own.output()
        assert [
            n for n in ("postgres2", "postgres3") if f"{n:<9} | copied" in own.output()
        ] == copied

        down = own.manage("cluster", "down")

        assert down.returncode == 0, down.stderr
        assert own.process is not None
        assert own.process.wait(5) == 0
        assert_gone(processes)
    secrets = json.loads((own.state_dir / "secrets.json").read_text())
    assert (secrets["admin_password"], secrets["demo_key"]) == (password, key)


@pytest.mark.timeout(300)
def test_after_a_kill_the_next_up_or_down_cleans_up(own: OwnStack) -> None:
    own.arguments = QUICK
    own.start()
    for victims in (["up"], ["supervisord"], ["up", "supervisord"]):
        before = kill(own, victims)
        if "up" not in victims:
            # It notices, stops the rest and says why.
            assert own.process is not None
            assert own.process.returncode == 1
            assert "supervisord was killed" in own.output()
        own.start()

        assert own.answers(), victims
        assert_gone(before)

    before = kill(own, ["up"])
    down = own.manage("cluster", "down")

    assert down.returncode == 0, down.stderr
    assert_gone(before)


def kill(own: OwnStack, victims: list[str]) -> list[psutil.Process]:
    """Kill `cluster up`, supervisord or both; return the processes that there were."""
    assert own.process is not None
    before = own.processes()
    pids = {"up": own.process.pid, "supervisord": own.record()["supervisord"]["pid"]}
    for victim in victims:
        os.kill(pids[victim], signal.SIGKILL)
    own.process.wait(10)
    return before


def test_a_signal_while_starting_stops_cleanly(own: OwnStack) -> None:
    own.launch()
    eventually(lambda: "postgres1 | ready" in own.output(), seconds=20, what="it is starting")
    processes = own.processes()

    assert own.stop(signal.SIGINT) < 10
    assert_gone(processes)
    assert not (own.state_dir / "stack.env").exists()


def test_a_reader_that_leaves_stops_the_stack(own: OwnStack) -> None:
    process = subprocess.Popen(
        [*MANAGE, "cluster", "up", *QUICK], env=own.env, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.wait(20) == 0
    assert own.status_code() == 1


@pytest.mark.parametrize("setting", ["PORT", "STATS_PORT"])
def test_a_taken_port_is_named(own: OwnStack, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        second = OwnStack(own.state_dir, env={setting: str(port)})

        with pytest.raises(StackFailed, match=f"Port {port} is taken.*{setting}"):
            second.start()


def test_a_database_without_its_password_is_an_error(own: OwnStack) -> None:
    own.start()
    own.stop(signal.SIGTERM)
    secrets_file = own.state_dir / "secrets.json"
    moved = secrets_file.rename(own.state_dir / "secrets.moved")

    with pytest.raises(StackFailed, match=r"secrets\.json is missing"):
        own.start()

    moved.rename(secrets_file)


def test_a_part_that_cannot_start_stops_the_stack_with_its_last_lines(
    make_stack: Callable[..., OwnStack], tmp_path: Path
) -> None:
    program = script(tmp_path / "redis-server", "echo 'the disk is on fire'; exit 1")
    own = make_stack(env={"EMBEDDED_REDIS_SERVER": str(program)})

    with pytest.raises(StackFailed) as failure:
        own.start()

    assert "redis     | the disk is on fire" in str(failure.value)
    assert "redis: fails repeatedly; the stack stops." in str(failure.value)
    assert own.process is not None
    assert own.process.returncode == 1
    assert not (own.state_dir / "stack.env").exists()


def test_two_stacks_run_side_by_side(
    stack: EmbeddedStack, make_stack: Callable[..., OwnStack]
) -> None:
    # The other one in a directory whose path is too long for a unix socket, and has spaces.
    other = make_stack(name="a" * 60 + "/" + "b c" * 20)
    other.start()

    assert other.answers()
    assert stack.is_ready()
    assert stack.url != other.url
    assert stack.demo_key != other.demo_key
    addresses = [part["address"] for one in (stack, other) for part in one.status()["parts"]]
    assert len(addresses) == len(set(addresses))
    other.stop()
    assert stack.is_ready()


def script(path: Path, text: str) -> Path:
    """Write a shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
