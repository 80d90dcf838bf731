"""Control of a stack by other processes: read its state, and stop it."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from fleet.cluster import cleanup, lock, state_file
from fleet.cluster.errors import ClusterError
from fleet.cluster.paths import Layout
from fleet.cluster.processes import ProcessSpec, accepts, answers, read_all
from fleet.cluster.supervisord import ProcessInfo, Supervisord, SupervisorGone

DOWN_SECONDS = 20.0
# What a running process must answer to be called ready; the others must take a connection.
READY_PATHS = {"node": "/health/ready", "worker": "/health/ready", "llm": "/health"}


@dataclass(frozen=True, kw_only=True)
class ProcessStatus:
    """One process as `cluster status` shows it.

    `state` is `ready`, `starting` (alive, not ready), `draining` (a node that is out of
    rotation), `backoff` (died, waits to be started again), `stopping`, `stopped` or `failed`. `pid`
    is null without a process.
    """

    name: str
    kind: str
    state: str
    pid: int | None
    address: str
    uptime_seconds: float
    restarts: int


@dataclass(frozen=True, kw_only=True)
class StackStatus:
    """The stack's state; `url` is None, and there are no processes, when none runs."""

    url: str | None
    parts: list[ProcessStatus]

    def as_dict(self) -> dict[str, object]:
        """Return it ready for JSON."""
        return asdict(self)


def read(layout: Layout) -> StackStatus:
    """Query supervisord and the processes themselves for their state."""
    last = state_file.load(layout.record_file)
    if last is None:
        return StackStatus(url=None, parts=[])
    try:
        processes = {process.name: process for process in Supervisord(layout).processes()}
    except SupervisorGone:
        return StackStatus(url=None, parts=[])
    parts = [
        _part_status(
            spec,
            processes[spec.name],
            last.restarts.get(spec.name, 0),
            is_drained=layout.drain_file(spec.name).exists(),
        )
        for spec in read_all(layout.specs_dir)
        if spec.name in processes
    ]
    return StackStatus(url=last.url, parts=parts)


def stop(layout: Layout, *, on_progress: Callable[[str], None]) -> bool:
    """Stop the stack from another process; return whether there was one."""
    pid = lock.holder(layout.lock_file)
    if pid is None:
        if not cleanup.leftovers_exist(layout):
            return False
        cleanup.clean_up(layout, on_progress=on_progress)
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while lock.holder(layout.lock_file) == pid:
        if time.monotonic() > deadline:
            raise ClusterError(f"process {pid} did not stop within {DOWN_SECONDS:.0f} s")
        time.sleep(0.1)
    return True


def _part_status(
    spec: ProcessSpec, process: ProcessInfo, restarts: int, *, is_drained: bool
) -> ProcessStatus:
    is_alive = process.pid != 0
    return ProcessStatus(
        name=spec.name,
        kind=spec.kind,
        state=_state(spec, process, is_drained=is_drained),
        pid=process.pid or None,
        address=spec.address,
        uptime_seconds=round(max(0.0, time.time() - process.started_at), 1) if is_alive else 0.0,
        restarts=restarts,
    )


def _state(spec: ProcessSpec, process: ProcessInfo, *, is_drained: bool) -> str:
    if process.state in {"starting", "running"} and is_drained:
        return "draining"
    if process.state in {"starting", "running"}:
        path = READY_PATHS.get(spec.kind)
        is_ready = answers(spec.address, path) if path else accepts(spec.address)
        return "ready" if is_ready else "starting"
    return {"exited": "backoff", "fatal": "failed", "unknown": "failed"}.get(
        process.state, process.state
    )
