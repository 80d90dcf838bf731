"""Metrics of other processes, read from their /metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from scaling.replicas.metrics import READS
from scaling.replicas.topology import Server
from scaling.scrape import Metrics, ScrapeError, scrape

MAX_SCRAPES_AT_ONCE = 16
NAMES = ("headrace_database_", "headrace_replica_lag_seconds")
# The reasons of reads that could have gone to a replica. A worker's own loops, requests that write
# and reads in transactions would hide them.
REASONS = frozenset({"replica", "behind", "none", "no_connection", "unknown", "late"})


@dataclass(frozen=True, kw_only=True)
class ProcessMetrics:
    """Sums over the processes that answered, by server; `reads` has those of REASONS."""

    processes: int = 0
    silent: int = 0
    reads: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    # How many processes send reads there.
    used_by: Counter[str] = field(default_factory=Counter)
    # The greatest of their values.
    lag_seconds: dict[str, float] = field(default_factory=dict)

    def since(self, earlier: ProcessMetrics) -> ProcessMetrics:
        """Return a copy with the reads since `earlier`; with all reads if there were none."""
        reads = Counter(
            {name: max(0, count - earlier.reads[name]) for name, count in self.reads.items()}
        )
        return ProcessMetrics(
            processes=self.processes,
            silent=self.silent,
            reads=reads if reads.total() else self.reads,
            busy=self.busy,
            used_by=self.used_by,
            lag_seconds=self.lag_seconds,
        )


def collect(addresses: Iterable[str]) -> ProcessMetrics:
    """Scrape the processes at these `host:port`, all at once."""
    wanted = list(addresses)
    if not wanted:
        return ProcessMetrics()
    with ThreadPoolExecutor(min(len(wanted), MAX_SCRAPES_AT_ONCE)) as pool:
        scrapes = [metrics for metrics in pool.map(_metrics, wanted) if metrics is not None]
    figures = ProcessMetrics(processes=len(scrapes), silent=len(wanted) - len(scrapes))
    for metrics in scrapes:
        _add(figures, metrics)
    return figures


def own(servers: Iterable[Server]) -> ProcessMetrics:
    """Return this process's own metrics."""
    figures = ProcessMetrics(
        processes=1, busy=Counter({server.name: server.busy for server in servers})
    )
    for family in READS.collect():
        for sample in family.samples:
            if sample.name.endswith("_total") and sample.labels["reason"] in REASONS:
                figures.reads[sample.labels["server"]] += int(sample.value)
    return figures


def _metrics(address: str) -> Metrics | None:
    try:
        return scrape(address, prefixes=NAMES)
    except ScrapeError:
        return None


def _add(figures: ProcessMetrics, metrics: Metrics) -> None:
    for (name, found), value in metrics.items():
        labels = dict(found)
        server = labels.get("server", "")
        match name:
            case "headrace_database_reads_total" if labels.get("reason") in REASONS:
                figures.reads[server] += int(value)
            case "headrace_database_connections_busy":
                figures.busy[server] += int(value)
            case "headrace_database_in_rotation":
                figures.used_by[server] += int(value)
            case "headrace_replica_lag_seconds":
                known = figures.lag_seconds.get(server, 0.0)
                figures.lag_seconds[server] = max(known, value)
