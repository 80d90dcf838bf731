"""A node or worker is started again whatever state supervisord has it in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from supervisor.xmlrpc import Faults

from fleet.cluster.node_pool import NodePool
from fleet.cluster.paths import Layout
from fleet.cluster.processes import Program
from fleet.cluster.supervisord import Supervisord, SupervisorRefused
from fleet.cluster.worker import Worker, worker_id
from fleet.haproxy import RuntimeApi
from tests.support.waiting import eventually

# Ends a second after its stop signal, as a worker does that is still loading.
SLOW_TO_STOP = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit()))
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""


@dataclass(frozen=True, kw_only=True)
class SlowWorker(Worker):
    """A worker that takes a second to stop."""

    running_file: Path

    def program(self) -> Program:
        """Return the command of a process that is slow to stop."""
        script = self.running_file.with_suffix(".py")
        script.write_text(SLOW_TO_STOP, encoding="utf-8")
        return Program(command=[sys.executable, str(script), str(self.running_file)])


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[NodePool]:
    layout = Layout(state_dir=tmp_path)
    layout.create()
    supervisord = Supervisord(layout)
    process = supervisord.start()
    yield NodePool(
        layout=layout,
        supervisord=supervisord,
        api=RuntimeApi(layout.haproxy_socket, state_file=layout.haproxy_state_file),
        on_progress=lambda text: None,
    )
    supervisord.shutdown()
    process.wait(30)


@pytest.mark.parametrize("how", ["with a new program", "as it was"])
def test_a_process_that_is_still_stopping_is_started_again(
    pool: NodePool, tmp_path: Path, how: str
) -> None:
    worker = SlowWorker(id=worker_id(1, 1), running_file=tmp_path / "running")
    pool.launch(worker)
    eventually(worker.running_file.exists, seconds=20, what="the worker runs")
    first = pool.supervisord.find("worker1")
    pool.supervisord.request_stop("worker1")
    stopping = pool.supervisord.find("worker1")
    assert first is not None
    assert stopping is not None
    assert stopping.is_stopping
    if how == "as it was":
        pool.supervisord.start_again("worker1")
    else:
        pool.launch(worker)
    second = pool.supervisord.find("worker1")
    assert second is not None
    assert second.state in {"starting", "running"}
    assert second.pid != first.pid


def test_what_supervisord_refuses_is_an_error_of_the_stack(pool: NodePool) -> None:
    with pytest.raises(SupervisorRefused, match="BAD_NAME: worker9") as refusal:
        pool.supervisord.remove("worker9")
    assert refusal.value.code == Faults.BAD_NAME
    # That one is not running is what was wanted.
    pool.supervisord.request_stop("worker9")
