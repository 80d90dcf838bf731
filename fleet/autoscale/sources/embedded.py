"""Measurements of the embedded stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from django.conf import settings

from fleet.autoscale import backlog
from fleet.autoscale.errors import MeasureError
from fleet.autoscale.policies import WEB, WORKERS
from fleet.autoscale.sources import Measured, Values, attempt, latency, processes, proxy_counts
from fleet.autoscale.sources.latency import Buckets
from fleet.autoscale.sources.processes import Usage
from fleet.autoscale.sources.proxy_counts import ProxyCounts
from fleet.cluster import state_file
from fleet.cluster.paths import Layout
from fleet.cluster.processes import ProcessSpec, read_all
from scaling.scrape import ScrapeError, scrape

KINDS = {"node": WEB, "worker": WORKERS}
MAX_SCRAPES_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class _Reading:
    at: float
    proxy: ProxyCounts | None = None
    usages: Mapping[str, Usage] = field(default_factory=dict)
    latencies: Mapping[str, Buckets] = field(default_factory=dict)


class EmbeddedSource:
    """HAProxy's statistics, the nodes' and workers' processes and metrics, and the job table."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._layout = Layout(state_dir=settings.STATE_DIR)
        self._clock = clock
        self._before: _Reading | None = None

    def measure(self, sizes: Mapping[str, int]) -> Measured:
        """Measure everything once."""
        problems: list[str] = []
        specs = {spec.name: spec for spec in read_all(self._layout.specs_dir)}
        reading = _Reading(
            at=self._clock(),
            proxy=attempt(lambda: proxy_counts.read(settings.AUTOSCALE_HAPROXY_URL), problems),
            usages=self._usages(specs),
            latencies=_latencies([p for p in specs.values() if p.kind == "node"], problems),
        )
        values: dict[str, Values] = {WEB: {}, WORKERS: {}}
        self._add_usage(values, specs, reading)
        self._add_requests(values[WEB], reading, sizes.get(WEB, 0))
        if found := attempt(backlog.read, problems):
            values[WORKERS] |= backlog.measures(found, workers=sizes.get(WORKERS, 0))
        self._before = reading
        return Measured(values=values, problems=tuple(problems))

    def _usages(self, specs: Mapping[str, ProcessSpec]) -> dict[str, Usage]:
        record = state_file.load(self._layout.record_file)
        known = record.processes if record else {}
        found = {
            name: processes.usage(known[name])
            for name, spec in specs.items()
            if spec.kind in KINDS and name in known
        }
        return {name: usage for name, usage in found.items() if usage}

    def _add_usage(
        self, values: dict[str, Values], specs: Mapping[str, ProcessSpec], reading: _Reading
    ) -> None:
        before = self._before
        for kind, fleet in KINDS.items():
            usages = {n: u for n, u in reading.usages.items() if specs[n].kind == kind}
            if usages:
                memory = [usage.memory_mb for usage in usages.values()]
                values[fleet]["memory_mb"] = sum(memory) / len(memory)
            if before is None or reading.at <= before.at:
                continue
            # Only of those that were there before: a start takes a second of CPU, once.
            cpu = [
                processes.cpu_percent(before.usages[name], usage, reading.at - before.at)
                for name, usage in usages.items()
                if name in before.usages
            ]
            if cpu:
                values[fleet]["cpu_percent"] = sum(cpu) / len(cpu)

    def _add_requests(self, values: Values, reading: _Reading, nodes: int) -> None:
        before = self._before
        if reading.proxy:
            known = before.proxy if before else None
            seconds = reading.at - before.at if before else 0.0
            values |= proxy_counts.values(known, reading.proxy, seconds=seconds, nodes=nodes)
        if before and before.latencies.keys() & reading.latencies.keys():
            values["latency_p95_ms"] = latency.p95_ms(before.latencies, reading.latencies)


def _latencies(nodes: list[ProcessSpec], problems: list[str]) -> dict[str, Buckets]:
    """Return the buckets of the nodes that answer; those that do not are the problem of all."""
    if not nodes:
        return {}
    missed: list[str] = []
    with ThreadPoolExecutor(min(len(nodes), MAX_SCRAPES_AT_ONCE)) as threads:
        answers = threads.map(
            lambda node: attempt(lambda: read_buckets(node.address), missed), nodes
        )
        found = {
            node.name: buckets
            for node, buckets in zip(nodes, answers, strict=True)
            if buckets is not None
        }
    if not found:
        problems += missed[:1]
    return found


def read_buckets(address: str) -> Buckets:
    """Return a node's latencies; raises MeasureError."""
    try:
        return latency.buckets(scrape(address, prefixes=(latency.METRIC,)))
    except ScrapeError as error:
        raise MeasureError(f"the metrics of {address} cannot be read: {error}") from error
