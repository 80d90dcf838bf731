"""A full disk of STATE_DIR, with the embedded stack's databases, logs and records on it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.faults.conftest import ENV
from tests.faults.harness import Faults
from tests.faults.machine.disks import SmallDisk
from tests.support.own_stack import OwnStack
from tests.support.waiting import eventually

# PostgreSQL's own files and its log of writes, with little space besides.
DISK = "400m"
ARGUMENTS = ("--nodes=1", "--workers=1", "--replicas=0", "--no-llm")
START_SECONDS = 300.0
FULL_SECONDS = 12.0
BACK_SECONDS = 60.0

pytestmark = [
    pytest.mark.timeout(240, func_only=True),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk"),
]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    """The disk that STATE_DIR is."""
    disk = SmallDisk(tmp_path_factory.mktemp("small") / "state", size=DISK)
    yield disk
    disk.remove()


@pytest.fixture(scope="module")
def cramped(disk: SmallDisk) -> Iterator[Faults]:
    """A stack on the disk."""
    env = {**ENV, "WEB_ACCESS_LOG": "true"}
    stack = OwnStack(disk.path, arguments=ARGUMENTS, env=env)
    try:
        stack.start(seconds=START_SECONDS)
        for chain in ("quick", "slow"):
            made = stack.run("chains", "add", chain, "--runnable", chain)
            assert made.returncode == 0, made.stderr
        yield Faults(stack)
    finally:
        stack.stop()


def test_a_full_disk_of_the_stack_loses_nothing_and_is_got_over(
    cramped: Faults, disk: SmallDisk
) -> None:
    stack = cramped.stack
    cramped.post_many(10, mark="before", chain="slow")
    up = stack.process
    assert up is not None
    refused = 0
    worker = stack.part("worker1")["pid"]
    with disk.full():
        # What changes in this time cannot be recorded.
        os.kill(worker, signal.SIGKILL)
        until = time.monotonic() + FULL_SECONDS
        while time.monotonic() < until:
            answer = cramped.post(f"full {time.monotonic()}", chain="quick")
            assert answer.status_code in (202, 503), answer.text
            refused += answer.status_code == 503
            disk.fill()
            time.sleep(0.2)
        # The status writes nothing, and `cluster up` goes on.
        assert stack.manage("cluster", "status").returncode == 0
        assert up.poll() is None
    assert refused
    assert stack.part("worker1")["pid"] != worker
    eventually(
        lambda: stack.record()["processes"]["worker1"]["pid"] == stack.part("worker1")["pid"],
        seconds=10,
        what="the new process is recorded",
    )
    assert not list((disk.path / "run").glob(".*"))
    eventually(
        lambda: all(part["state"] == "ready" for part in stack.status()["parts"]),
        seconds=BACK_SECONDS,
        what=f"every part is ready: {stack.status()['parts']}",
    )
    cramped.wait_for_all(seconds=BACK_SECONDS)
    cramped.check(list(cramped.texts))


def test_a_stack_does_not_start_on_a_full_disk_and_reports_it(
    cramped: Faults, disk: SmallDisk
) -> None:
    stack = cramped.stack
    stack.stop()
    with disk.full():
        disk.fill()
        again = stack.manage("cluster", "up", *ARGUMENTS, env=stack.env, seconds=120)
        assert again.returncode != 0
        assert "No space left on device" in again.stdout + again.stderr
        assert "Traceback" not in again.stdout + again.stderr
    stack.start(seconds=START_SECONDS)
    cramped.check(list(cramped.texts))
