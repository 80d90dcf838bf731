"""The core cases on the other brokers: a message or none, the jobs are run, each once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.faults.conftest import ARGUMENTS, ENV
from tests.faults.harness import Faults
from tests.stack_plugin import EmbeddedStack, free_public_port

COUNT = 200
DUPLICATES = """
from jobs.announcer import send
assert all(send("job_of_nobody") for _ in range({count}))
"""

pytestmark = pytest.mark.timeout(240)


def absent(what: str) -> None:
    """Skip for lack of a program, but fail where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed")
    pytest.skip(f"{what} is not installed")


@contextmanager
def moto() -> Iterator[dict[str, str]]:
    """Run moto's server, which speaks SQS."""
    port = free_public_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(lambda: httpx.get(f"{url}/moto-api/").status_code == 200, seconds=30)
        yield {
            "BROKER_URL": f"sqs://eu-west-1?endpoint_url={url}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def rabbitmq(directory: Path) -> Iterator[dict[str, str]]:
    """Run RabbitMQ on ports and files of its own."""
    # Debian's own command on PATH changes to a user who may not write here.
    server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    if not Path(server).exists():
        absent("RabbitMQ")
    port, dist_port = free_public_port(), free_public_port()
    node = f"headrace{uuid.uuid4().hex[:8]}@localhost"
    environment = {
        **os.environ,
        "HOME": str(directory),
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(dist_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "logs"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_CONFIG_FILE": str(directory / "none"),
    }
    with (directory / "rabbitmq.out").open("wb") as output:
        process = subprocess.Popen(
            [server], cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = f"amqp://guest:guest@127.0.0.1:{port}"
        _wait(lambda: _accepts(port), seconds=60)
        yield {"BROKER_URL": url}
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        for member in family:
            member.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for member in alive:
            member.kill()


@contextmanager
def stack_on(broker: dict[str, str], state_dir: Path) -> Iterator[Faults]:
    """Run a stack whose broker is this one."""
    stack = EmbeddedStack(state_dir, arguments=ARGUMENTS, env={**ENV, **broker})
    stack.start()
    faults = Faults(stack)
    try:
        for name in ("slow", "quick"):
            assert stack.manage("chains", "add", name, "--runnable", name).returncode == 0
        yield faults
    finally:
        faults.http.close()
        stack.stop()


@pytest.mark.parametrize("kind", ["sqs", "rabbitmq"])
def test_the_core_cases(kind: str, tmp_path: Path) -> None:
    broker = moto() if kind == "sqs" else rabbitmq(tmp_path)
    with broker as environment, stack_on(environment, tmp_path / "stack") as faults:
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
        # A worker is told to stop.
        ids = faults.post_many(COUNT, mark="stopped")
        os.kill(faults.pids("worker")[0], signal.SIGTERM)
        faults.wait_for_all()
        faults.check(ids)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
        # The server greets only what speaks first.
        probe.sendall(b"AMQP\x00\x00\x09\x01")
        return bool(probe.recv(8))


def _wait(what: Callable[[], object], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if what():
                return
        except (httpx.HTTPError, OSError):
            pass
        assert time.monotonic() < deadline, "the broker did not start"
        time.sleep(0.2)
