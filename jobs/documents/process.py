"""The process that reads a PDF for a node."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import orjson
from django.conf import settings
from gevent.os import fork_and_watch, make_nonblocking, nb_read, waitpid

from jobs.documents.budgets import Budget

EXTRACT = Path(__file__).with_name("extract") / "__main__.py"
READ_BYTES = 65_536
# JSON of a character: `\u0000` and the like for the worst of them, and some room for the rest.
MOST_BYTES_PER_CHAR = 6
ENVELOPE_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The result of a reading: an `answer`, or a limit (`over` is cpu, memory or clock).

    `cpu_seconds` is the processor time that it took, its full budget if it was killed.
    """

    answer: dict[str, Any]
    over: str | None
    cpu_seconds: float


def read_pdf(fd: int, budget: Budget) -> Reading:
    """Read the PDF in an open file within limits. Nothing is left running.

    The process is spawned (vfork and exec): a fork of the node would copy its page tables while
    the event loop stands, and run Python between other threads' locks.
    """
    read_end, write_end = os.pipe()
    try:
        try:
            pid = fork_and_watch(fork=lambda: _spawn(fd, write_end, budget))
        finally:
            os.close(write_end)
        make_nonblocking(read_end)
        output, status = _wait(pid, read_end, budget)
    finally:
        os.close(read_end)
    if status is None:
        return Reading(answer={}, over="clock", cpu_seconds=budget.cpu_seconds)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return Reading(answer={}, over="cpu", cpu_seconds=budget.cpu_seconds)
    # The kernel kills a process that takes the container's last memory; C code aborts without any.
    if status != 0:
        return Reading(answer={}, over="memory", cpu_seconds=0.0)
    answer = orjson.loads(output)
    return Reading(answer=answer, over=answer.get("over"), cpu_seconds=answer["cpu_seconds"])


def _spawn(fd: int, write_end: int, budget: Budget) -> int:
    arguments = [
        sys.executable,
        # No environment, no packages of the user, and no code from the node's directory.
        "-I",
        str(EXTRACT),
        *map(str, (budget.pages, budget.chars, budget.cpu_seconds, budget.memory_bytes)),
        str(settings.JOB_FILE_NICE),
    ]
    return os.posix_spawn(
        sys.executable,
        arguments,
        # A reader of strangers' files gets none of our secrets.
        {},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, fd, 0),
            (os.POSIX_SPAWN_DUP2, write_end, 1),
            # pypdf writes there about repairs of a file.
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
    )


def _wait(pid: int, read_end: int, budget: Budget) -> tuple[bytes, int | None]:
    """Return the process's output and its wait status, None if it was killed for being late."""
    most_bytes = budget.chars * MOST_BYTES_PER_CHAR + ENVELOPE_BYTES
    output = bytearray()
    status = None
    try:
        with suppress(TimeoutError), gevent.Timeout(budget.clock_seconds, TimeoutError):
            while len(output) <= most_bytes and (data := nb_read(read_end, READ_BYTES)):
                output += data
            _, status = waitpid(pid, 0)
    finally:
        if status is None:
            os.kill(pid, signal.SIGKILL)
            waitpid(pid, 0)
    return bytes(output), status
