"""Measurements of remote nodes: by HTTP, and of the jobs by PostgreSQL.

The nodes' addresses are those that HAProxy's statistics name. They must be reachable from here, as
in a network of Docker Compose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from django.conf import settings

from fleet.autoscale import backlog
from fleet.autoscale.errors import MeasureError
from fleet.autoscale.policies import WEB, WORKERS
from fleet.autoscale.sources import Measured, Values, attempt, latency, proxy_counts
from fleet.autoscale.sources.latency import Buckets
from fleet.autoscale.sources.proxy_counts import ProxyCounts
from scaling.scrape import ScrapeError, scrape

MAX_SCRAPES_AT_ONCE = 32
MEGABYTE = 1024 * 1024
PROCESS = "process_"


@dataclass(frozen=True, kw_only=True)
class Scrape:
    """One node's own metrics; a platform without /proc has no CPU and memory."""

    process: Mapping[str, float]
    buckets: Buckets


@dataclass(frozen=True, kw_only=True)
class _Reading:
    at: float
    proxy: ProxyCounts | None = None
    scrapes: Mapping[str, Scrape] = field(default_factory=dict)


class ScrapedSource:
    """HAProxy's statistics, the nodes' metrics, and the job table."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before = _Reading(at=clock())

    def measure(self, sizes: Mapping[str, int]) -> Measured:
        """Measure everything once."""
        problems: list[str] = []
        proxy = attempt(lambda: proxy_counts.read(settings.AUTOSCALE_HAPROXY_URL), problems)
        scrapes = _scrapes(proxy.addresses if proxy else {}, problems)
        before, reading = self._before, _Reading(at=self._clock(), proxy=proxy, scrapes=scrapes)
        seconds = reading.at - before.at
        web: Values = {}
        if proxy:
            nodes = sizes.get(WEB, 0)
            web |= proxy_counts.values(before.proxy, proxy, seconds=seconds, nodes=nodes)
        web |= _node_values(before.scrapes, scrapes, seconds)
        workers: Values = {}
        if found := attempt(backlog.read, problems):
            workers = backlog.measures(found, workers=sizes.get(WORKERS, 0))
        self._before = reading
        return Measured(values={WEB: web, WORKERS: workers}, problems=tuple(problems))


def _scrapes(addresses: Mapping[str, str], problems: list[str]) -> dict[str, Scrape]:
    """Return the nodes that answer; when none does, the first one's problem is reported."""
    if not addresses:
        return {}
    missed: list[str] = []
    with ThreadPoolExecutor(min(len(addresses), MAX_SCRAPES_AT_ONCE)) as threads:
        answers = threads.map(lambda at: attempt(lambda: _scrape(at), missed), addresses.values())
        pairs = zip(addresses, answers, strict=True)
        found = {name: scrape for name, scrape in pairs if scrape is not None}
    if not found:
        problems += missed[:1]
    return found


def _scrape(address: str) -> Scrape:
    try:
        metrics = scrape(address, prefixes=(PROCESS, latency.METRIC))
    except ScrapeError as error:
        raise MeasureError(f"the metrics of {address} cannot be read: {error}") from error
    return Scrape(
        process={name: value for (name, _), value in metrics.items() if name.startswith(PROCESS)},
        buckets=latency.buckets(metrics),
    )


def _node_values(
    before: Mapping[str, Scrape], after: Mapping[str, Scrape], seconds: float
) -> Values:
    found: Values = {}
    memory = [m for s in after.values() if (m := s.process.get("process_resident_memory_bytes"))]
    if memory:
        found["memory_mb"] = sum(memory) / len(memory) / MEGABYTE
    known = before.keys() & after.keys()
    spent = [
        # A node that was started again counts from 0.
        max(0.0, new - before[name].process.get("process_cpu_seconds_total", new))
        for name in known
        if (new := after[name].process.get("process_cpu_seconds_total")) is not None
    ]
    if spent and seconds > 0:
        found["cpu_percent"] = 100 * sum(spent) / len(spent) / seconds
    if known:
        found["latency_p95_ms"] = latency.p95_ms(
            {name: scrape.buckets for name, scrape in before.items()},
            {name: scrape.buckets for name, scrape in after.items()},
        )
    return found
