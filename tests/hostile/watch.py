"""What the other account and the processes feel while a stack is attacked."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil

from tests.stack_plugin import EmbeddedStack

ASK_SECONDS = 0.1
LOOK_SECONDS = 0.2
# What no node or worker takes.
MAX_MEMORY_BYTES = 400 * 1024 * 1024
# In the command of a process of jobs/documents/process.py.
READS_DOCUMENT = "jobs/documents/extract"
BODY = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}


class Watch:
    """Times and statuses of the other account's requests; memory of nodes and workers, in bytes."""

    def __init__(self, stack: EmbeddedStack, other: httpx.Client) -> None:
        self._stack = stack
        self._other = other
        self._is_over = threading.Event()
        self.seconds: list[float] = []
        self.statuses: set[int] = set()
        self.ended: set[int] = set()
        self.processes = [
            process
            for part in stack.status()["parts"]
            if part["kind"] in ("node", "worker")
            for process in _family(part["pid"])
        ]
        self.before = self.memory()
        self.peak = dict(self.before)

    def memory(self) -> dict[int, int]:
        """Return the resident memory by process; one that has ended has none."""
        sizes = {}
        for process in self.processes:
            try:
                sizes[process.pid] = process.memory_info().rss
            except psutil.NoSuchProcess:
                self.ended.add(process.pid)
                sizes[process.pid] = 0
        return sizes

    @property
    def p50(self) -> float:
        """The median time of a request."""
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        """The time of the slowest request but one in a hundred."""
        return sorted(self.seconds)[max(0, len(self.seconds) * 99 // 100 - 1)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask and look as long as the block runs."""
        threads = [threading.Thread(target=work) for work in (self._ask, self._look)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()
            self._is_over.clear()

    def _ask(self) -> None:
        while not self._is_over.wait(ASK_SECONDS):
            began = time.monotonic()
            response = self._other.post("/v1/chat/completions", json=BODY)
            self.seconds.append(time.monotonic() - began)
            self.statuses.add(response.status_code)

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            for pid, size in self.memory().items():
                self.peak[pid] = max(self.peak[pid], size)


def _family(pid: int) -> list[Any]:
    """Return the processes of a part that run Headrace, without those that read one document."""
    process = psutil.Process(pid)
    return [process, *(child for child in process.children(recursive=True) if _stays(child))]


def _stays(process: Any) -> bool:
    try:
        return not any(READS_DOCUMENT in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False
