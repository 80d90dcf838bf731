"""Prompts of 1,000 to 100,000 tokens, and small requests while large ones are answered."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from loadtest import wrk
from loadtest.provider.cpu import cpu_seconds, per_request_ms
from loadtest.provider.stack import Target, headrace_with, node_of, provider, question
from loadtest.settings import ANSWER
from loadtest.table import Row, print_progress

TOKENS = (1_000, 10_000, 100_000)
# Four characters, as an English token has in the mean.
WORD = "the "
CONNECTIONS = 4
MAX_ADDED_CPU_MS = 15
SMALL_CONNECTIONS = 4
SMALL_PERIOD_MS = 50
MAX_SMALL_MS = 30


def measure(*, seconds: int, runs: int) -> list[Row]:
    """Return what a long prompt adds to a node's processor time, and to others' answers."""
    with provider() as mock, headrace_with(mock) as ours:
        node = node_of(ours)
        _send(node, question(), connections=CONNECTIONS, seconds=3)
        cpu_ms = {tokens: _cpu_ms(node, tokens, seconds, runs) for tokens in TOKENS}
        alone = [_small(node, seconds) for _ in range(runs)]
        beside = [_small(node, seconds, large=TOKENS[-1]) for _ in range(runs)]
    return rows_of(cpu_ms, alone, beside)


def rows_of(
    cpu_ms: dict[int, float], alone: Sequence[wrk.Load], beside: Sequence[wrk.Load]
) -> list[Row]:
    """Return the lines of all lengths, and of small requests."""
    rows = [
        Row(measure=f"prompt of {tokens:,} tokens, node", figure=f"{ms:.2f} ms CPU a request")
        for tokens, ms in cpu_ms.items()
    ]
    added = cpu_ms[TOKENS[-1]] - cpu_ms[TOKENS[0]]
    rows.append(
        Row(
            measure=f"what a prompt of {TOKENS[-1]:,} tokens adds to one of {TOKENS[0]:,}",
            figure=f"{added:.1f} ms CPU",
            bound=f"< {MAX_ADDED_CPU_MS} ms",
            passed=added < MAX_ADDED_CPU_MS,
        )
    )
    p99_alone = statistics.median(load.p99_ms for load in alone)
    p99 = statistics.median(load.p99_ms for load in beside)
    slowest = max(load.max_ms for load in beside)
    rows.append(
        Row(
            measure=f"small requests while prompts of {TOKENS[-1]:,} tokens are answered",
            figure=f"p99 {p99:.1f} ms ({p99_alone:.1f} alone), slowest {slowest:.0f} ms",
            bound=f"p99 < {MAX_SMALL_MS} ms",
            passed=p99 < MAX_SMALL_MS,
        )
    )
    return rows


def _cpu_ms(node: Target, tokens: int, seconds: int, runs: int) -> float:
    taken = []
    for _ in range(runs):
        before = cpu_seconds(node.pids)
        load = _send(node, WORD * tokens, connections=CONNECTIONS, seconds=seconds)
        taken.append(per_request_ms(node.pids, load, before))
    print_progress(f"prompt of {tokens} tokens: {statistics.median(taken):.2f} ms CPU")
    return statistics.median(taken)


def _small(node: Target, seconds: int, *, large: int = 0) -> wrk.Load:
    """Send small requests at a pace, with one connection busy with large ones or none."""
    with ThreadPoolExecutor(1) as threads:
        others = []
        if large:
            length = seconds + 2
            others.append(threads.submit(_send, node, WORD * large, connections=1, seconds=length))
        load = _send(
            node,
            question(),
            connections=SMALL_CONNECTIONS,
            seconds=seconds,
            PERIOD_MS=SMALL_PERIOD_MS,
        )
        for other in others:
            other.result()
        return load


def _send(
    node: Target, text: str, *, connections: int, seconds: int, **options: object
) -> wrk.Load:
    return wrk.post(
        node.url,
        body=json.dumps(node.body(text, False)),
        key=node.key,
        connections=connections,
        seconds=seconds,
        expect=ANSWER,
        options=options,
    )
