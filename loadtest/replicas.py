"""Reads of conversations' history with and without replicas, the pool, and the cost of routing."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from loadtest import wrk
from loadtest.servers import ROOT, Headrace, headrace

CONNECTIONS = 32
TURNS = 10
# A replica gets no reads before Redis's memory is older than this (POSITION_SECONDS).
POSITION_SECONDS = 4
EXPECT = "has_more"
# Runs in a process of its own, whose Django knows two replicas by name only.
ROUTING = """
import os, time
os.environ["DATABASE_REPLICA_URLS"] = "postgresql://a@127.0.0.1:1/a,postgresql://a@127.0.0.1:2/a"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
import django
django.setup()
from chat.models import Conversation
from scaling.replicas import routing
from scaling.replicas.read_context import start_request
from scaling.replicas.health import GOOD_SAMPLES, Sample
from scaling.replicas.position import Position
from scaling.replicas.router import Router
from scaling.replicas.topology import TOPOLOGY
TOPOLOGY.set_replicas(["replica1", "replica2"])
for server in TOPOLOGY.replicas.values():
    server.take(Sample(
        taken_at=0, is_in_recovery=True, position=Position(1, 100), started_at=""))
    server.fault, server.good_samples = "", GOOD_SAMPLES
read_context = start_request()
read_context.bind_account("a", reads_replicas=True)
read_context._required["a"] = Position(1, 99)
router = Router()
best = 1.0
for _ in range(7):
    began = time.perf_counter()
    for _ in range(20_000):
        router.db_for_read(Conversation)
    best = min(best, (time.perf_counter() - began) / 20_000)
assert router.db_for_read(Conversation) in TOPOLOGY.replicas
print(best * 1e6)
"""


@dataclass(frozen=True, kw_only=True)
class Reads:
    """Reads a second, and the CPU time of the primary for each in microseconds."""

    per_second: float
    p99_ms: float
    primary_us: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The results; `reads` by the number of replicas."""

    routing_us: float
    reads: Mapping[int, Reads]
    pooled_per_second: float
    unpooled_per_second: float


def measure(*, seconds: int, runs: int) -> Figures:
    """Measure all, in one run."""
    env = {"READ_CACHE_SECONDS": "0", "POSITION_SECONDS": str(POSITION_SECONDS)}
    reads = {}
    for replicas in (0, 1, 2):
        with headrace(nodes=1, replicas=replicas, env=env) as ours:
            reads[replicas] = _read(ours, seconds=seconds, runs=runs)
    with headrace(nodes=1, env={**env, "DATABASE_POOL_MAX": "0"}) as ours:
        unpooled = _read(ours, seconds=seconds, runs=runs)
    return Figures(
        routing_us=_routing_us(),
        reads=reads,
        pooled_per_second=reads[0].per_second,
        unpooled_per_second=unpooled.per_second,
    )


def _read(ours: Headrace, *, seconds: int, runs: int) -> Reads:
    node = f"http://{ours.nodes[0]['address']}"
    conversation = _call(f"{node}/v1/conversations", ours.key, {"chain": "fake-chat"})["id"]
    history = f"{node}/v1/conversations/{conversation}/messages?limit=20"
    for number in range(TURNS):
        _call(history, ours.key, {"content": f"question {number}"})
    time.sleep(POSITION_SECONDS + 2)
    primary = psutil.Process(ours.part("postgres1")["pid"])
    seen = []
    for run in range(runs + 1):
        before = _cpu_seconds(primary)
        load = wrk.get(
            history, key=ours.key, connections=CONNECTIONS, seconds=seconds, expect=EXPECT
        )
        used = _cpu_seconds(primary) - before
        if run:
            seen.append((load.per_second, load.p99_ms, used / max(1, load.requests) * 1e6))
    return Reads(
        per_second=statistics.median(one[0] for one in seen),
        p99_ms=statistics.median(one[1] for one in seen),
        primary_us=statistics.median(one[2] for one in seen),
    )


def _cpu_seconds(process: psutil.Process) -> float:
    total = 0.0
    for member in [process, *process.children(recursive=True)]:
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _call(url: str, key: str, body: Mapping[str, str]) -> dict[str, str]:
    request = urllib.request.Request(  # noqa: S310  (a server of ours)
        url,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        answer: dict[str, str] = json.load(response)
        return answer


def _routing_us() -> float:
    done = subprocess.run(
        [sys.executable, "-c", ROUTING], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout.strip().splitlines()[-1])
