"""Figures of the time between two samples. Pure: nothing is measured here."""

from dataclasses import asdict, dataclass
from itertools import pairwise

from fleet.cluster.live.sample import ProcessSample, Sample, of_server
from scaling.response_cache.results import HITS, CacheResult
from scaling.scrape import Metrics, total

LATENCY = "headrace_request_seconds_bucket"


@dataclass(frozen=True, kw_only=True)
class NodeFigures:
    """A node; latency is until an answer begins, and None without answers in between.

    `queued` requests wait in HAProxy for this node; `cpu_percent` is of one core.
    """

    name: str
    state: str
    version: str
    requests_per_second: float
    in_flight: int
    queued: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    cpu_percent: float
    memory_mb: int


@dataclass(frozen=True, kw_only=True)
class WorkerFigures:
    """A worker and how many jobs it runs."""

    name: str
    state: str
    running_jobs: int
    cpu_percent: float
    memory_mb: int


@dataclass(frozen=True, kw_only=True)
class ServerFigures:
    """A database server; `lag_seconds` is None for the primary, and where it is unknown."""

    name: str
    role: str
    state: str
    lag_seconds: float | None
    cpu_percent: float
    memory_mb: int


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The stack; `cache_hit_rate` is of all nodes, and None without lookups in between."""

    url: str | None
    nodes: list[NodeFigures]
    workers: list[WorkerFigures]
    servers: list[ServerFigures]
    waiting_jobs: int | None
    cache_hit_rate: float | None

    def as_dict(self) -> dict[str, object]:
        """Return it ready for JSON."""
        return asdict(self)


def compare(before: Sample, after: Sample) -> Figures:
    """Return the figures of the time between two samples; what began in between counts fully."""
    seconds = max(0.001, after.at - before.at)
    old = {process.status.name: process for process in before.processes}
    nodes, workers, servers = [], [], []
    for process in after.processes:
        earlier = old.get(process.status.name)
        if earlier is not None and earlier.status.pid != process.status.pid:
            # It was restarted: all counters began again.
            earlier = None
        cpu = 100 * (process.cpu_seconds - (earlier.cpu_seconds if earlier else 0.0)) / seconds
        cpu_percent = round(max(0.0, cpu), 1)
        if process.status.kind == "node":
            nodes.append(_node(process, earlier, before, after, cpu_percent))
        elif process.status.kind == "worker":
            workers.append(
                WorkerFigures(
                    name=process.status.name,
                    state=process.status.state,
                    running_jobs=int(total(process.metrics, "headrace_jobs_running")),
                    cpu_percent=cpu_percent,
                    memory_mb=process.memory_bytes >> 20,
                )
            )
        elif process.status.kind in ("primary", "replica"):
            servers.append(_server(process, after, cpu_percent))
    return Figures(
        url=after.url,
        nodes=nodes,
        workers=workers,
        servers=servers,
        waiting_jobs=after.waiting_jobs,
        cache_hit_rate=_hit_rate(before, after),
    )


def quantile(share: float, buckets: list[tuple[float, float]]) -> float | None:
    """Return an estimate in seconds from cumulative counts by upper bound, as Prometheus makes it.

    None without a count. What is above the last finite bound counts as that bound.
    """
    buckets = [(0.0, 0.0), *sorted(buckets)]
    wanted = share * buckets[-1][1]
    if not wanted:
        return None
    for (low, below), (high, up_to) in pairwise(buckets):
        if up_to >= wanted:
            if high == float("inf"):
                return low
            return low + (high - low) * (wanted - below) / (up_to - below)
    return None


def _node(
    process: ProcessSample, earlier: ProcessSample | None, before: Sample, after: Sample, cpu: float
) -> NodeFigures:
    name = process.status.name
    buckets = _buckets(process.metrics)
    if earlier is not None:
        seen = _buckets(earlier.metrics)
        buckets = {bound: count - seen.get(bound, 0.0) for bound, count in buckets.items()}
    latency = [quantile(share, list(buckets.items())) for share in (0.5, 0.95, 0.99)]
    p50, p95, p99 = (None if q is None else round(1000 * q, 1) for q in latency)
    now = of_server(after.proxy, "sessions_total", name)
    then = of_server(before.proxy, "sessions_total", name)
    versions = [dict(labels) for found, labels in process.metrics if found == "headrace_build_info"]
    return NodeFigures(
        name=name,
        state=process.status.state,
        version=versions[0]["version"] if versions else "",
        # HAProxy's counters begin again when it does.
        requests_per_second=round((now - then if now >= then else now) / (after.at - before.at), 1),
        in_flight=int(of_server(after.proxy, "current_sessions", name)),
        queued=int(of_server(after.proxy, "current_queue", name)),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        cpu_percent=cpu,
        memory_mb=process.memory_bytes >> 20,
    )


def _buckets(metrics: Metrics) -> dict[float, float]:
    return {
        float(dict(labels)["le"]): value
        for (name, labels), value in metrics.items()
        if name == LATENCY
    }


def _server(process: ProcessSample, after: Sample, cpu: float) -> ServerFigures:
    name = process.status.name
    # Every node sees the same; the first answer counts.
    lag = next(
        (
            value
            for other in after.processes
            for (found, labels), value in other.metrics.items()
            if found == "headrace_replica_lag_seconds" and ("server", name) in labels
        ),
        None,
    )
    return ServerFigures(
        name=name,
        role=process.status.kind,
        state=process.status.state,
        lag_seconds=None if lag is None else round(lag, 3),
        cpu_percent=cpu,
        memory_mb=process.memory_bytes >> 20,
    )


def _hit_rate(before: Sample, after: Sample) -> float | None:
    def counts(sample: Sample) -> tuple[float, float]:
        hits = sum(
            _results(process.metrics, result) for process in sample.processes for result in HITS
        )
        misses = sum(_results(process.metrics, CacheResult.MISS) for process in sample.processes)
        return hits, hits + misses

    hits, lookups = counts(after)
    old_hits, old_lookups = counts(before)
    if lookups < old_lookups:
        # A node was restarted or left, and took its counts along.
        old_hits = old_lookups = 0.0
    if lookups == old_lookups:
        return None
    return round(max(0.0, (hits - old_hits) / (lookups - old_lookups)), 3)


def _results(metrics: Metrics, result: str) -> float:
    return total(metrics, "headrace_cache_results_total", result=result)
