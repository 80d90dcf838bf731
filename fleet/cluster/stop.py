"""Stop the processes in order, and kill what does not follow."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterable

import psutil

from fleet.cluster.processes import STOP_ORDER, ProcessSpec
from fleet.cluster.state_file import ProcessId
from fleet.cluster.supervisord import Supervisord, SupervisorGone

# Everything must be gone within 10 seconds of Ctrl-C; the rest of them is for the killing.
STOP_SECONDS = 8.0
SHUTDOWN_SECONDS = 1.0
POLL_SECONDS = 0.03


def stop_processes(
    supervisord: Supervisord, specs: Iterable[ProcessSpec], *, on_progress: Callable[[str], None]
) -> list[ProcessId]:
    """Stop kind after kind, then supervisord; return the processes that may still live.

    Within a kind all stop at once. What is late is killed by supervisord after its `stop_seconds`.
    """
    specs = list(specs)
    deadline = time.monotonic() + STOP_SECONDS
    processes: dict[str, ProcessId] = {}
    try:
        own = ProcessId.of(supervisord.pid())
        for process in supervisord.processes():
            if process.pid and (found := ProcessId.of(process.pid)):
                processes[process.name] = found
        for kind in STOP_ORDER:
            names = {spec.name for spec in specs if spec.kind == kind}
            if names:
                on_progress(f"stopping {', '.join(sorted(names))}")
                # Nothing reaches a node any more: HAProxy is gone, and with it every client.
                is_quick = kind == "node"
                for name in names if is_quick else ():
                    supervisord.request_stop(name)
                    _interrupt(processes.get(name))
                _stop_all(supervisord, names, deadline)
        supervisord.shutdown()
    except SupervisorGone:
        return list(processes.values())
    _wait_for_end(own)
    return [*processes.values(), *([own] if own else [])]


def kill(processes: Iterable[ProcessId]) -> None:
    """Kill those that still live, with their children, and wait until they are gone."""
    found = [process for identity in processes if (process := identity.find())]
    for process in list(found):
        with contextlib.suppress(psutil.Error):
            found += process.children(recursive=True)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=2)


def _stop_all(supervisord: Supervisord, names: set[str], deadline: float) -> None:
    for name in names:
        supervisord.request_stop(name)
    while time.monotonic() < deadline:
        if all(p.is_stopped for p in supervisord.processes() if p.name in names):
            return
        time.sleep(POLL_SECONDS)


def _interrupt(process: ProcessId | None) -> None:
    """Stop gunicorn at once, without settling and draining first."""
    if process and (found := process.find()):
        with contextlib.suppress(psutil.Error):
            found.send_signal(signal.SIGINT)


def _wait_for_end(process: ProcessId | None) -> None:
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while process and process.find() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
