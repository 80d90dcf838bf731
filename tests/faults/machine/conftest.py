"""One stack whose Redis may move or fall silent, and whose logs and uploads are on small disks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import ENV
from tests.faults.machine.disks import SmallDisk
from tests.faults.machine.harness import MachineFaults
from tests.support.forwarder import Forwarder
from tests.support.own_stack import OwnStack
from tests.support.redis_server import OwnRedis

# The stack's start takes what it takes on a busy machine.
START_SECONDS = 300.0
ARGUMENTS = ("--nodes=2", "--workers=1", "--replicas=1", "--no-llm")


@pytest.fixture(scope="package")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MachineFaults]:
    """The running stack, and its two Redis servers behind one name."""
    home = Path(tmp_path_factory.mktemp("machine"))
    state_dir = home / "stack"
    state_dir.mkdir(mode=0o700)
    places = [state_dir / "logs", state_dir / "media", home / "redis1", home / "redis2"]
    disks = {place.name: SmallDisk(place) for place in places}
    servers = [OwnRedis(place) for place in places[2:]]
    for server in servers:
        server.start()
    with Forwarder(servers[0].port) as name:
        url = f"redis://127.0.0.1:{name.port}"
        env = {
            **ENV,
            "CACHE_URL": f"{url}/0",
            "BROKER_URL": f"{url}/1",
            # A line a request.
            "WEB_ACCESS_LOG": "true",
            # A busy machine is no frozen server.
            "REDIS_TIMEOUT_SECONDS": "0.2",
        }
        stack = OwnStack(state_dir, arguments=ARGUMENTS, env=env)
        try:
            stack.start(seconds=START_SECONDS)
            for chain in ("slow", "quick"):
                made = stack.run("chains", "add", chain, "--runnable", chain)
                assert made.returncode == 0, made.stderr
            yield MachineFaults(stack, name=name, servers=servers, disks=disks)
        finally:
            stack.stop()
            for server in servers:
                server.thaw()
                server.kill()
            for disk in disks.values():
                disk.remove()


@pytest.fixture
def faults(machine: MachineFaults) -> Iterator[MachineFaults]:
    """The stack, every part ready before the test and after it."""
    machine.wait_ready()
    yield machine
    machine.wait_ready()
