"""Fencing: stop a server so that it can accept no more writes."""

import time
from pathlib import Path

import psutil

from fleet.cluster.errors import ProcessFailed
from fleet.cluster.supervisord import ProcessInfo, Supervisord

# supervisord kills the server's process after its `stop_seconds` (5); this is for the rest.
STOP_SECONDS = 8.0
# Processes that live so long after SIGKILL hang in the kernel.
KILL_SECONDS = 5.0
POLL_SECONDS = 0.05


def stop_server(name: str, data_dir: Path, supervisord: Supervisord) -> None:
    """Stop a server fast, or kill it if it is frozen or late; all its processes have ended then.

    Raises `ProcessFailed` when one of them is not.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while (info := supervisord.find(name)) and not info.is_stopped:
        # One that just died ("exited") is started again first, and can be stopped only then.
        if info.state in {"starting", "running", "backoff"}:
            supervisord.request_stop(name)
        if _is_frozen(info) or time.monotonic() > deadline:
            _kill_all(name, data_dir)
        time.sleep(POLL_SECONDS)
    # Backends of a killed server run until they notice, and a frozen one when it thaws.
    _kill_all(name, data_dir)


def _is_frozen(info: ProcessInfo) -> bool:
    try:
        return bool(info.pid) and psutil.Process(info.pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def _kill_all(name: str, data_dir: Path) -> None:
    deadline = time.monotonic() + KILL_SECONDS
    while found := _processes_in(data_dir):
        # The oldest is the one that would start others.
        for process in sorted(found, key=lambda process: process.pid):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(found, timeout=POLL_SECONDS)
        if time.monotonic() > deadline:
            raise ProcessFailed(name, f"{name} cannot be killed; nothing was changed")


def _processes_in(data_dir: Path) -> list[psutil.Process]:
    """Return the PostgreSQL processes that work in a data directory, also those without parent."""
    path = str(data_dir.resolve())
    return [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] == "postgres" and process.info["cwd"] == path
    ]
