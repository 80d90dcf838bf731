"""A part that may open no more files: no part ends or spins, and it accepts again afterwards."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests.faults.machine.harness import MachineFaults
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(180, func_only=True)

LIMITED_SECONDS = 5.0
# More than the limit leaves.
CONNECTIONS = 60
LEFT = 20
# HAProxy's checks find a node that does not accept after three failures.
FOUND_SECONDS = 8.0
MOST_OF_A_PROCESSOR = 0.6


@contextmanager
def limited(process: psutil.Process, *, left: int) -> Iterator[None]:
    """Limit a process to so many more open files."""
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    wanted = process.num_fds() + left
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (wanted, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def connections(address: str) -> Iterator[None]:
    """Open idle connections to an address, for the length of the block."""
    host, port = address.rsplit(":", 1)
    with contextlib.ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(socket.create_connection((host, int(port)), timeout=10))
        yield


def serving(faults: MachineFaults, name: str) -> psutil.Process:
    """Return the process of a part that has the connections."""
    process = psutil.Process(faults.stack.part(name)["pid"])
    return max([process, *process.children(recursive=True)], key=psutil.Process.num_fds)


def processor_share(process: psutil.Process, seconds: float) -> float:
    """Return which share of a processor a process takes."""
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / seconds


def test_a_node_without_descriptors_leaves_the_others_its_requests(faults: MachineFaults) -> None:
    address = faults.databases.nodes["node1"]
    node = serving(faults, "node1")
    log = faults.stack.state_dir / "logs/node1.log"
    written = log.stat().st_size
    with limited(node, left=LEFT), connections(address):
        # Those that are accepted by the kernel alone wait; the proxy must not send more of them.
        time.sleep(FOUND_SECONDS)
        with faults.clients() as answers:
            share = processor_share(node, LIMITED_SECONDS)
    assert b"Too many open files" in log.read_bytes()[written:]
    assert answers.problems == []
    assert share < MOST_OF_A_PROCESSOR
    assert serving(faults, "node1").pid == node.pid, "it was started again"
    eventually(
        lambda: httpx.get(f"http://{address}/health/ready", timeout=5).status_code == 200,
        seconds=15,
        what="the node accepts again",
    )
    faults.check_all()


def test_a_worker_without_descriptors_loses_no_job(faults: MachineFaults) -> None:
    worker = serving(faults, "worker1")
    with limited(worker, left=0):
        ids = faults.post_many(20, mark="no descriptors", chain="quick")
        share = processor_share(worker, LIMITED_SECONDS)
    assert share < MOST_OF_A_PROCESSOR
    faults.wait_for_all()
    faults.check(ids)


def test_a_redis_without_descriptors_is_done_without(faults: MachineFaults) -> None:
    server = faults.current
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    # New connections are closed or wait; those that are there answer. Redis itself does not wait
    # between its tries to accept.
    with (
        limited(process, left=2),
        connections(f"127.0.0.1:{server.port}"),
        faults.clients() as answers,
    ):
        time.sleep(LIMITED_SECONDS)
    assert answers.problems == []
    faults.check_all()


def test_a_proxy_without_descriptors_accepts_again(faults: MachineFaults) -> None:
    proxy = serving(faults, "haproxy")
    address = faults.stack.url.removeprefix("http://")
    with limited(proxy, left=LEFT), connections(address):
        share = processor_share(proxy, LIMITED_SECONDS)
    assert share < MOST_OF_A_PROCESSOR
    # Its checks of the nodes had no descriptor either; the next ones find them.
    eventually(
        lambda: httpx.get(f"{faults.stack.url}/health/ready", timeout=5).status_code == 200,
        seconds=5,
        what="the proxy accepts, and has nodes",
        errors=(httpx.TransportError,),
    )
    with faults.clients() as answers:
        time.sleep(2)
    assert answers.problems == []
    assert serving(faults, "haproxy").pid == proxy.pid
