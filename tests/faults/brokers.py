"""Brokers of a test's own: moto, which speaks SQS, and RabbitMQ."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from tests.faults.conftest import ARGUMENTS, ENV
from tests.faults.harness import Faults
from tests.stack_plugin import free_public_port
from tests.support.own_stack import OwnStack
from tests.support.waiting import slack


def absent(what: str) -> None:
    """Skip for lack of a program, but fail where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed")
    pytest.skip(f"{what} is not installed")


@contextmanager
def moto() -> Iterator[dict[str, str]]:
    """Run moto's server, which speaks SQS; yields the settings that lead to it."""
    port = free_public_port()
    with moto_on(port):
        yield sqs_settings(port)


def sqs_settings(port: int) -> dict[str, str]:
    """Return the settings of a stack whose SQS is on this port."""
    return {
        "BROKER_URL": f"sqs://eu-west-1?endpoint_url=http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


@contextmanager
def moto_on(port: int) -> Iterator[int]:
    """Run moto's server on this port; yields its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}/moto-api/"
        _wait(lambda: httpx.get(url).status_code == 200, seconds=30)
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def refusing_sqs(port: int) -> Iterator[None]:
    """Run a server in SQS's place that refuses everything, as after a change of permissions."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b'{"__type": "AccessDeniedException", "message": "no"}'
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    ThreadingHTTPServer.allow_reuse_address = True
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class RabbitMq:
    """A running server and its `rabbitmqctl`."""

    def __init__(self, port: int, environment: dict[str, str]) -> None:
        self.settings = {"BROKER_URL": f"amqp://guest:guest@127.0.0.1:{port}"}
        self._environment = environment

    def control(self, *words: str) -> None:
        """Run `rabbitmqctl` with these words."""
        subprocess.run(
            ["/usr/lib/rabbitmq/bin/rabbitmqctl", *words],
            env=self._environment,
            cwd=self._environment["HOME"],
            check=True,
            capture_output=True,
            timeout=60,
        )


@contextmanager
def rabbitmq(directory: Path) -> Iterator[RabbitMq]:
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
        _wait(lambda: _accepts(port), seconds=60)
        yield RabbitMq(port, environment)
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        for member in family:
            member.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for member in alive:
            member.kill()


@contextmanager
def stack_on(
    broker: dict[str, str], state_dir: Path, *, arguments: tuple[str, ...] = ARGUMENTS
) -> Iterator[Faults]:
    """Run a stack whose broker is this one."""
    stack = OwnStack(state_dir, arguments=arguments, env={**ENV, **broker})
    stack.start()
    faults = Faults(stack)
    try:
        for name in ("slow", "quick"):
            assert stack.run("chains", "add", name, "--runnable", name).returncode == 0
        yield faults
    finally:
        faults.http.close()
        stack.stop()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
        # The server greets only what speaks first.
        probe.sendall(b"AMQP\x00\x00\x09\x01")
        return bool(probe.recv(8))


def _wait(what: Callable[[], object], *, seconds: float) -> None:
    deadline = time.monotonic() + slack(seconds)
    while True:
        try:
            if what():
                return
        except (httpx.HTTPError, OSError):
            pass
        assert time.monotonic() < deadline, "the broker did not start"
        time.sleep(0.2)
