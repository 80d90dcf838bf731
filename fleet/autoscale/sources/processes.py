"""The CPU and memory of the embedded stack's nodes and workers, from the kernel."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from fleet.cluster.state_file import ProcessId

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Resource usage of one process: CPU seconds since its start, by process, and memory now."""

    cpu_seconds: dict[tuple[int, float], float]
    memory_mb: float
    # Processes that do its work: a gunicorn's children, or the process itself.
    workers: int


def usage(identity: ProcessId) -> Usage | None:
    """Return what a process and its children use; None when it is no more."""
    root = identity.find()
    if root is None:
        return None
    cpu: dict[tuple[int, float], float] = {}
    memory = 0.0
    try:
        found = [root, *root.children(recursive=True)]
    except psutil.Error:
        return None
    for process in found:
        try:
            with process.oneshot():
                times = process.cpu_times()
                cpu[process.pid, process.create_time()] = times.user + times.system
                memory += process.memory_info().rss
        except psutil.Error:
            # It ended while we looked.
            continue
    return Usage(cpu_seconds=cpu, memory_mb=memory / MEGABYTE, workers=max(1, len(found) - 1))


def cpu_percent(before: Usage, after: Usage, seconds: float) -> float:
    """Return the CPU between two readings, in percent of a core for each of its workers."""
    spent = sum(
        # A process that is new has spent all of it since.
        value - before.cpu_seconds.get(process, 0.0)
        for process, value in after.cpu_seconds.items()
    )
    return max(0.0, 100 * spent / seconds / after.workers)
