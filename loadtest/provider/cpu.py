"""The processor time of process trees."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import psutil

from loadtest import wrk


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time so far of processes and of all that live below them."""
    total = 0.0
    for pid in pids:
        root = psutil.Process(pid)
        for member in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                total += times.user + times.system
    return total


def per_request_ms(pids: Sequence[int], load: wrk.Load, before: float) -> float:
    """Return the milliseconds of processor time that a request of a load took since `before`."""
    return (cpu_seconds(pids) - before) / load.requests * 1000
