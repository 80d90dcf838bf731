"""What is stored: a message in a conversation of 100 messages, and a job submitted and run.

The model is the fake one in the process, as for the figures before: a provider's cost is compare's.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from loadtest import wrk
from loadtest.provider.cpu import cpu_seconds
from loadtest.servers import Headrace, headrace
from loadtest.settings import QUESTION
from loadtest.shares import CONNECTIONS, WARM_UP_SECONDS, post, settle
from loadtest.table import Row, print_progress

MESSAGES = 100
# Each gets some more messages, so that the mean is little above MESSAGES.
CONVERSATIONS = 20
MORE = 5
# As in loadtest.shares: jobs that come together share statements.
# Most milliseconds of the processor, of a node and of PostgreSQL's primary.
BOUNDS = {"message in a conversation of 100": (4.0, 0.8), "job, submitted and run": (1.2, 1.4)}


def measure(*, seconds: int, runs: int) -> list[Row]:
    """Return a line for a message and for a job, and what PostgreSQL takes of each."""
    with headrace(nodes=1, workers=1) as ours:
        _jobs(ours, WARM_UP_SECONDS)
        conversations = [_conversation(ours) for _ in range(CONVERSATIONS)]
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in BOUNDS}
        message, job = BOUNDS
        for _ in range(runs):
            found[message].append(_used(ours, seconds, lambda: _say_more(ours, conversations)))
            found[job].append(_used(ours, seconds, lambda: _jobs(ours, seconds)))
    return [row for name, seen in found.items() for row in rows_of(name, seen)]


def rows_of(name: str, seen: list[tuple[float, float]]) -> list[Row]:
    """Return the lines of one kind: a node's processor time, and PostgreSQL's."""
    rows = []
    for part, bound, taken in zip(
        ("node", "PostgreSQL"), BOUNDS[name], zip(*seen, strict=True), strict=True
    ):
        ms = statistics.median(taken)
        rows.append(
            Row(
                measure=f"{name}, {part}",
                figure=f"{ms:.2f} ms CPU",
                bound=f"<= {bound} ms",
                passed=ms <= bound,
            )
        )
    return rows


def _used(ours: Headrace, idle_seconds: int, work: Callable[[], int]) -> tuple[float, float]:
    """Return the node's and PostgreSQL's milliseconds a request, less what they use while idle."""
    pids = [int(ours.part(name)["pid"]) for name in ("node1", "postgres1")]
    before = [cpu_seconds([pid]) for pid in pids]
    time.sleep(idle_seconds)
    idle = [
        (cpu_seconds([pid]) - start) / idle_seconds for pid, start in zip(pids, before, strict=True)
    ]
    before, began = [cpu_seconds([pid]) for pid in pids], time.monotonic()
    count = work()
    took = time.monotonic() - began
    node, postgres = (
        max(0.0, cpu_seconds([pid]) - start - rate * took) / count * 1000
        for pid, start, rate in zip(pids, before, idle, strict=True)
    )
    print_progress(f"{count} requests: node {node:.2f} ms, PostgreSQL {postgres:.2f} ms")
    return node, postgres


def _conversation(ours: Headrace) -> str:
    created: dict[str, Any] = post(ours, "/v1/conversations", {"chain": "fake-chat"})
    path = f"/v1/conversations/{created['id']}/messages"
    for _ in range(MESSAGES // 2):
        post(ours, path, {"content": QUESTION})
    return path


def _say_more(ours: Headrace, paths: list[str]) -> int:
    for path in paths:
        for _ in range(MORE):
            post(ours, path, {"content": QUESTION})
    return len(paths) * MORE


def _jobs(ours: Headrace, seconds: int) -> int:
    load = wrk.post(
        f"{ours.url}/v1/jobs",
        body=json.dumps({"chain": "trivial", "input": "x"}),
        key=ours.key,
        connections=CONNECTIONS,
        seconds=seconds,
    )
    settle(ours)
    return load.requests
