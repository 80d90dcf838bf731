"""A flood of wrong keys, each another."""

from __future__ import annotations

import json
import statistics

from loadtest import wrk
from loadtest.provider.cpu import cpu_seconds, per_request_ms
from loadtest.provider.stack import Target, headrace_with, node_of, provider, proxy_of, question
from loadtest.table import Row, print_progress

CONNECTIONS = 32
MAX_CPU_MS = 0.15


def measure(*, seconds: int, runs: int) -> list[Row]:
    """Return what a refusal costs a node, and a node with HAProxy in front of it."""
    with provider() as mock, headrace_with(mock) as ours:
        targets = {"node": node_of(ours), "HAProxy and node": proxy_of(ours)}
        cpu_ms = {
            name: statistics.median(_cpu_ms(target, seconds) for _ in range(runs))
            for name, target in targets.items()
        }
    return rows_of(cpu_ms)


def rows_of(cpu_ms: dict[str, float]) -> list[Row]:
    """Return a line for each server; the bound is a node's."""
    return [
        Row(
            measure=f"a wrong key, {name}",
            figure=f"{ms:.3f} ms CPU",
            bound=f"< {MAX_CPU_MS} ms" if name == "node" else "",
            passed=name != "node" or ms < MAX_CPU_MS,
        )
        for name, ms in cpu_ms.items()
    ]


def _cpu_ms(target: Target, seconds: int) -> float:
    body = json.dumps(target.body(question(), False))
    before = cpu_seconds(target.pids)
    load = wrk.refused(target.url, body=body, connections=CONNECTIONS, seconds=seconds)
    print_progress(f"wrong keys: {load.per_second:.0f}/s")
    return per_request_ms(target.pids, load, before)
