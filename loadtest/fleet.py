"""Nodes that come and go under load: what clients notice, and how two compare with one."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent

from loadtest import constant_path, wrk
from loadtest.servers import Headrace, headrace, manage
from loadtest.settings import QUESTION
from loadtest.steady import Answers, open_streams, steady_load

STEADY_PER_SECOND = 300.0
STREAMS = 200
OVERLOAD_SECONDS = 30
CHAT = json.dumps({"model": "fake-chat", "messages": [{"role": "user", "content": QUESTION}]})


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change of the fleet under load, and what became of the requests and streams."""

    name: str
    seconds: float
    asked: int
    lost: int
    lost_keyed: int
    lost_streams: int
    p99_ms: float
    what: str


@dataclass(frozen=True, kw_only=True)
class Overload:
    """Three times as many requests as the nodes can answer."""

    capacity_per_second: float
    good_per_second: float
    good_p99_ms: float
    refused: int
    refused_p99_ms: float
    lost: int
    recovery_seconds: float


def speedup(*, seconds: int, runs: int) -> tuple[float, float]:
    """Return uncached chat requests a second with one node and with two, through HAProxy."""
    rates = {}
    for nodes in (1, 2):
        with headrace(nodes=nodes) as ours:
            url = f"{ours.url}/v1/chat/completions"
            seen = [
                wrk.post(url, body=CHAT, key=ours.key, connections=64, seconds=seconds)
                for _ in range(runs + 1)
            ]
        rates[nodes] = statistics.median(load.per_second for load in seen[1:])
    return rates[1], rates[2]


def proxy_p50_ms(*, seconds: int, runs: int) -> tuple[float, float]:
    """Return the p50 of a constant answer directly and through HAProxy, in turns."""
    direct, proxied = [], []
    with headrace(nodes=1) as ours:
        node = f"http://{ours.nodes[0]['address']}{constant_path.PATH}"
        for _ in range(runs + 1):
            for url, into in ((node, direct), (f"{ours.url}{constant_path.PATH}", proxied)):
                load = wrk.post(url, body=CHAT, key=ours.key, connections=2, seconds=seconds)
                into.append(load.p50_ms)
    return statistics.median(direct[1:]), statistics.median(proxied[1:])


def changes() -> list[Change]:
    """Restart all nodes, scale 1 to 4 to 1, and kill a node, each under a steady load."""
    found = []
    with headrace(nodes=2) as ours:
        found.append(_under_load("rolling restart of 2 nodes", ours, _restart))
        found.append(_under_load("scale 2 -> 1 -> 4 -> 1 -> 2", ours, _scale))
        found.append(_under_load("kill -9 of a node", ours, _kill))
    return found


def overload(*, seconds: int = OVERLOAD_SECONDS) -> Overload:
    """Find the capacity with wrk, then send three times as much at a steady pace."""
    with headrace(nodes=2) as ours:
        url = f"{ours.url}/v1/chat/completions"
        loads = [
            wrk.post(url, body=CHAT, key=ours.key, connections=64, seconds=5) for _ in range(3)
        ]
        capacity = statistics.median(load.per_second for load in loads[1:])
        with steady_load(ours, per_second=3 * capacity) as answers:
            gevent.sleep(seconds)
        ended = time.monotonic()
        with steady_load(ours, per_second=capacity / 3) as after:
            gevent.sleep(5)
        slow = [
            at - ended for at, ms in zip(after.good_at, after.good_ms, strict=True) if ms > 1000
        ]
    return Overload(
        capacity_per_second=capacity,
        good_per_second=sum(1 for at in answers.good_at if at <= ended) / seconds,
        good_p99_ms=_p99(answers.good_ms),
        refused=answers.refused,
        refused_p99_ms=_p99(answers.refused_ms),
        lost=answers.lost.total() + answers.lost_keyed.total(),
        recovery_seconds=max(slow, default=0.0),
    )


def _under_load(name: str, ours: Headrace, change: Callable[[Headrace], None]) -> Change:
    with (
        open_streams(ours, count=STREAMS) as streams,
        steady_load(ours, per_second=STEADY_PER_SECOND) as answers,
    ):
        gevent.sleep(8)
        before = Answers(asked=answers.asked)
        began = time.monotonic()
        gevent.get_hub().threadpool.apply(change, (ours,))
        seconds = time.monotonic() - began
        gevent.sleep(3)
    return Change(
        name=name,
        seconds=seconds,
        asked=answers.asked - before.asked,
        lost=answers.lost.total(),
        lost_keyed=answers.lost_keyed.total(),
        lost_streams=len(streams.lost),
        p99_ms=_p99(answers.good_ms),
        what=", ".join(
            f"{count} {what}"
            for what, count in [*answers.lost.items(), *answers.lost_keyed.items()]
        )
        + "; ".join(sorted(set(streams.lost)))[:200],
    )


def _restart(ours: Headrace) -> None:
    manage(ours.state_dir, "cluster", "restart", "--rolling")


def _scale(ours: Headrace) -> None:
    for nodes in (1, 4, 1, 2):
        manage(ours.state_dir, "cluster", "scale", "--nodes", str(nodes))


def _kill(ours: Headrace) -> None:
    node: dict[str, Any] = ours.nodes[0]
    os.kill(node["pid"], signal.SIGKILL)
    for child in node.get("children", ()):
        os.kill(child, signal.SIGKILL)
    time.sleep(10)


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] if values else 0.0
