"""Measure cached chat: against a constant answer of the same nodes, and against the peers."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from dataclasses import dataclass, field

from loadtest import constant_path, wrk
from loadtest.servers import Headrace, headrace, langserve, litellm
from loadtest.settings import ANSWER, QUESTION

CONNECTIONS = 64
WARM_UP_SECONDS = 3
PROMPTS = 1000
MISSES = 0.2


@dataclass(kw_only=True)
class Figures:
    """The loads of all runs by name, and what is computed of them."""

    loads: dict[str, list[wrk.Load]] = field(default_factory=dict)

    def add(self, name: str, load: wrk.Load) -> None:
        """Record one run."""
        self.loads.setdefault(name, []).append(load)

    def per_second(self, name: str) -> float:
        """Return the median of a name's rates."""
        return statistics.median(load.per_second for load in self.loads[name])

    def p99_ms(self, name: str) -> float:
        """Return the median of a name's 99th percentiles."""
        return statistics.median(load.p99_ms for load in self.loads[name])

    def hit_rate(self, name: str) -> float:
        """Return the median of a name's shares of hits."""
        return statistics.median(load.hits / load.requests for load in self.loads[name])


def body_of(text: str, *, model: str = "cached-chat") -> str:
    """Return the body of a chat completion."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}]})


def measure(*, seconds: int, runs: int) -> Figures:
    """Return what was seen: two nodes behind HAProxy, then one node and each peer."""
    found = Figures()
    with headrace(nodes=2) as ours:
        _two_nodes(found, ours, seconds, runs)
    with headrace(nodes=1) as ours, langserve() as theirs, litellm(ours) as proxy:
        for run in range(runs + 1):
            loads = _one_node(ours, theirs, proxy, seconds if run else WARM_UP_SECONDS)
            for name, load in loads.items() if run else ():
                found.add(name, load)
    with headrace(nodes=1, env={"CACHE_NEAR_SECONDS": "0"}) as ours:
        node = f"http://{ours.nodes[0]['address']}/v1/chat/completions"
        _fill(node, ours.key)
        for _ in range(runs):
            found.add("store", _hits(node, ours.key, seconds))
    return found


def _two_nodes(found: Figures, ours: Headrace, seconds: int, runs: int) -> None:
    url = f"{ours.url}/v1/chat/completions"
    constant = f"{ours.url}{constant_path.PATH}"
    _fill(url, ours.key)
    for run in range(runs + 1):
        length = seconds if run else WARM_UP_SECONDS
        loads = {
            "constant": wrk.post(
                constant,
                body=body_of(QUESTION),
                key=ours.key,
                connections=CONNECTIONS,
                seconds=length,
                expect=constant_path.ANSWER,
            ),
            "cached": _hits(url, ours.key, length),
        }
        if run:
            for name, load in loads.items():
                found.add(name, load)
    # Each connection rests for twice the time that a request takes at the highest rate.
    period = 2000 * CONNECTIONS / found.per_second("cached")
    for _ in range(runs):
        found.add("half", _hits(url, ours.key, seconds, options={"PERIOD_MS": round(period)}))
        found.add(
            "zipf",
            wrk.post(
                url,
                body=body_of("PROMPT", model="slow-chat"),
                key=ours.key,
                connections=CONNECTIONS,
                seconds=seconds,
                expect=ANSWER,
                options={"ZIPF": PROMPTS, "MISSES": MISSES},
            ),
        )


def _one_node(ours: Headrace, theirs: str, proxy: str, seconds: int) -> dict[str, wrk.Load]:
    """Send each one request; a proxy of "" is left out."""
    node = f"http://{ours.nodes[0]['address']}/v1/chat/completions"
    _fill(node, ours.key)
    loads = {
        "node": _hits(node, ours.key, seconds),
        "langserve": wrk.post(
            f"{theirs}/chat/invoke",
            body=json.dumps({"input": {"text": QUESTION}}),
            connections=CONNECTIONS,
            seconds=seconds,
            expect=ANSWER,
        ),
    }
    if proxy:
        loads["litellm"] = wrk.post(
            f"{proxy}/v1/chat/completions",
            body=body_of(QUESTION, model="fake-chat"),
            key="sk-litellm",
            connections=CONNECTIONS,
            seconds=seconds,
            expect=ANSWER,
        )
    return loads


def _hits(
    url: str, key: str, seconds: int, *, options: dict[str, object] | None = None
) -> wrk.Load:
    """Return a load of hits; raises RuntimeError if one was none."""
    load = wrk.post(
        url,
        body=body_of(QUESTION),
        key=key,
        connections=CONNECTIONS,
        seconds=seconds,
        expect=ANSWER,
        options=options or {},
    )
    # wrk stops counting in the middle of its last requests.
    if load.hits < load.requests - CONNECTIONS:
        raise RuntimeError(f"{url}: {load.hits} hits among {load.requests} answers")
    return load


def _fill(url: str, key: str) -> None:
    """Send requests until each node has the answer cached."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for _ in range(8):
        request = urllib.request.Request(url, body_of(QUESTION).encode(), headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            text = response.read().decode()
        if ANSWER not in text:
            raise SystemExit(f"wrong answer from {url}: {text[:300]}")
    time.sleep(0.5)
