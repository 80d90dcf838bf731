"""The core cases on the other brokers: a message or none, the jobs are run, each once."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.faults.brokers import moto, rabbitmq, stack_on

COUNT = 200
DUPLICATES = """
from jobs.queue.messages import send
assert all(send("job_of_nobody") for _ in range({count}))
"""

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("kind", ["sqs", "rabbitmq"])
def test_the_core_cases(kind: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as parts:
        if kind == "sqs":
            environment = parts.enter_context(moto())
        else:
            environment = parts.enter_context(rabbitmq(tmp_path)).settings
        faults = parts.enter_context(stack_on(environment, tmp_path / "stack"))
        # What is at rest is run, and quickly.
        ids = faults.post_many(COUNT, mark="at rest", chain="quick")
        faults.wait_for_all()
        faults.check(ids)
        # A worker is killed.
        ids = faults.post_many(COUNT, mark="killed")
        faults.wait_until(lambda: faults.running() > 20, seconds=20, why="nothing runs")
        faults.kill_busiest_worker()
        faults.wait_for_all()
        faults.check(ids)
        faults.wait_ready()
        # Messages come twice.
        ids = faults.post_many(COUNT, mark="twice")
        done = faults.stack.manage(
            "shell", "--no-imports", "-c", DUPLICATES.format(count=COUNT), env=environment
        )
        assert done.returncode == 0, done.stderr
        faults.wait_for_all()
        faults.check(ids)
        # A worker gets its stop signal.
        ids = faults.post_many(COUNT, mark="stopped")
        os.kill(faults.pids("worker")[0], signal.SIGTERM)
        faults.wait_for_all()
        faults.check(ids)
