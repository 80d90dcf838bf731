"""Whole answers and streams of 100 chunks: Headrace, LangServe and LiteLLM on the same provider."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from loadtest import wrk
from loadtest.provider.cpu import cpu_seconds, per_request_ms
from loadtest.provider.stack import (
    NEVER_REFUSES,
    Target,
    headrace_with,
    langserve_with,
    litellm_with,
    node_of,
    provider,
    proxy_of,
    question,
)
from loadtest.settings import ANSWER
from loadtest.table import Row, print_progress

CONNECTIONS = (32, 256)
WARM_UP_SECONDS = 3
# A slow peer's streams take long when 256 clients wait for one process.
TIMEOUT_SECONDS = 120
END_OF_STREAM = "token100"
# Least ratio to a peer's requests a second, and what is aimed at.
RATIOS = {
    ("whole", "LangServe"): (2.0, 2.5),
    ("whole", "LiteLLM"): (3.5, 5.0),
    ("stream", "LangServe"): (7.0, 10.0),
    ("stream", "LiteLLM"): (17.0, 25.0),
}
# Most milliseconds of a node's processor a request, and what is aimed at.
NODE_CPU_MS = {"whole": (1.3, None), "stream": (3.0, 2.0)}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Medians of some runs."""

    per_second: float
    p99_ms: float
    cpu_ms: float


def measure(*, seconds: int, runs: int) -> list[Row]:
    """Return the rows of all servers, kinds of answers and numbers of connections."""
    rows = []
    with ExitStack() as started:
        mock = started.enter_context(provider())
        ours = started.enter_context(headrace_with(mock, env=NEVER_REFUSES))
        targets = {
            "node": node_of(ours),
            "HAProxy and node": proxy_of(ours),
            "LangServe": started.enter_context(langserve_with(mock)),
            "LiteLLM": started.enter_context(litellm_with(mock)),
        }
        for connections in CONNECTIONS:
            for kind in ("whole", "stream"):
                figures = _run(targets, kind, connections, seconds, runs)
                rows += rows_of(kind, connections, figures)
    return rows


def rows_of(kind: str, connections: int, figures: Mapping[str, Figures]) -> list[Row]:
    """Return the lines of one kind of answer; the processor's bound is for few connections.

    With many, those that the end of a run cuts off cost much that no answer shows.
    """
    label = f"{kind}, {connections} connections"
    rows = []
    for name, seen in figures.items():
        most, aim = NODE_CPU_MS[kind]
        has_bound = name == "node" and connections == CONNECTIONS[0]
        rows.append(
            Row(
                measure=f"{label}, {name}",
                figure=f"{seen.per_second:.0f}/s, p99 {seen.p99_ms:.0f} ms,"
                f" {seen.cpu_ms:.2f} ms CPU a request",
                bound=f"<= {most} ms CPU{f' (aim {aim})' if aim else ''}" if has_bound else "",
                passed=not has_bound or seen.cpu_ms <= most,
            )
        )
    for peer in ("LangServe", "LiteLLM"):
        least, aim = RATIOS[kind, peer]
        ratio = figures["node"].per_second / figures[peer].per_second
        rows.append(
            Row(
                measure=f"{label}, node / {peer}",
                figure=f"{ratio:.1f}",
                bound=f">= {least:g} (aim {aim:g})",
                passed=ratio >= least,
            )
        )
    return rows


def _run(
    targets: Mapping[str, Target], kind: str, connections: int, seconds: int, runs: int
) -> dict[str, Figures]:
    seen: dict[str, list[Figures]] = {name: [] for name in targets}
    # All streams go on at the same time, and a slow server ends its first after many seconds.
    lengths = 4 if kind == "stream" and connections > CONNECTIONS[0] else 1
    for target in targets.values():
        _post(target, kind, connections, WARM_UP_SECONDS)
    for _ in range(runs):
        for name, target in targets.items():
            figures = _load(target, kind, connections, seconds * lengths)
            print_progress(f"{name} {kind} {connections}: {figures.per_second:.0f} requests/s")
            seen[name].append(figures)
    return {
        name: Figures(
            per_second=statistics.median(one.per_second for one in of),
            p99_ms=statistics.median(one.p99_ms for one in of),
            cpu_ms=statistics.median(one.cpu_ms for one in of),
        )
        for name, of in seen.items()
    }


def _load(target: Target, kind: str, connections: int, seconds: int) -> Figures:
    before = cpu_seconds(target.pids)
    load = _post(target, kind, connections, seconds)
    if not load.requests:
        raise RuntimeError(f"{target.url} answered none in {seconds} s")
    cpu_ms = per_request_ms(target.pids, load, before)
    return Figures(per_second=load.per_second, p99_ms=load.p99_ms, cpu_ms=cpu_ms)


def _post(target: Target, kind: str, connections: int, seconds: int) -> wrk.Load:
    is_stream = kind == "stream"
    return wrk.post(
        target.address(stream=is_stream),
        body=json.dumps(target.body(question(), is_stream)),
        key=target.key,
        connections=connections,
        seconds=seconds,
        expect=END_OF_STREAM if is_stream else ANSWER,
        timeout_seconds=TIMEOUT_SECONDS,
    )
