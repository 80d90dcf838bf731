"""Cleanup after a stack that was killed."""

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from fleet.cluster import state_file
from fleet.cluster.paths import Layout
from fleet.cluster.processes import read_all
from fleet.cluster.state_file import ProcessId
from fleet.cluster.stop import kill, stop_processes
from fleet.cluster.supervisord import Supervisord

GENTLE_SECONDS = 3.0


def leftovers_exist(layout: Layout) -> bool:
    """Return whether an earlier stack left files that must go before the next one starts."""
    return layout.env_file.exists() or layout.record_file.exists()


def clean_up(layout: Layout, *, on_progress: Callable[[str], None]) -> None:
    """Stop the processes that an earlier stack left running, and remove its runtime files.

    Only processes that are certainly its own are touched: those that its supervisord names, those
    whose pid and start time were recorded, and PostgreSQL servers on its data directories.
    """
    supervisord = Supervisord(layout)
    if supervisord.is_alive():
        kill(stop_processes(supervisord, read_all(layout.specs_dir), on_progress=on_progress))
    if last := state_file.load(layout.record_file):
        # supervisord first, lest it start again what is being killed.
        kill([last.supervisord] if last.supervisord else [])
        _end_gently(last.processes)
    for pid_file in layout.state_dir.glob("*/postmaster.pid"):
        _end_postgres(pid_file.parent)
    remove_runtime_files(layout)


def remove_runtime_files(layout: Layout) -> None:
    """Remove the files that only hold while a stack runs."""
    for path in (
        layout.env_file,
        layout.record_file,
        layout.overrides_file,
        layout.overrides_before_file,
        layout.database_url_file,
        layout.replica_urls_file,
        layout.supervisor_socket,
        layout.haproxy_socket,
        *layout.specs_dir.glob("*.conf"),
        *layout.run_dir.glob("*.drain"),
    ):
        path.unlink(missing_ok=True)
    if layout.socket_dir != layout.run_dir and layout.socket_dir.is_dir():
        with contextlib.suppress(OSError):
            layout.socket_dir.rmdir()


def _end_gently(processes: dict[str, ProcessId]) -> None:
    found = []
    for name, identity in processes.items():
        if process := identity.find():
            found.append(process)
            # PostgreSQL takes SIGTERM as "when all clients have left".
            is_postgres = name.startswith(("postgres", "primary", "replica"))
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT if is_postgres else signal.SIGTERM)
    psutil.wait_procs(found, timeout=GENTLE_SECONDS)
    kill(processes.values())


def _end_postgres(data_dir: Path) -> None:
    """Stop a server that PostgreSQL's own pid file names; it refuses to start while one lives."""
    try:
        pid = int((data_dir / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        process = psutil.Process(pid)
        if str(data_dir) not in process.cmdline():
            return
        # SIGINT: a fast shutdown, which disconnects the clients.
        process.send_signal(signal.SIGINT)
        process.wait(timeout=GENTLE_SECONDS)
    except psutil.TimeoutExpired:
        if identity := ProcessId.of(pid):
            kill([identity])
    except (OSError, ValueError, psutil.NoSuchProcess):
        return
