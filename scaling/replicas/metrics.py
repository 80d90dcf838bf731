"""The Prometheus metrics of reads, pools and database servers."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scaling.replicas.topology import TOPOLOGY

READS = Counter(
    "headrace_database_reads",
    "Queries that could go to a replica, by the server they went to and why.",
    ["server", "reason"],
)
READS_REPEATED = Counter(
    "headrace_database_reads_repeated",
    "Reads that failed on a replica and were repeated on another server.",
)
POSITIONS_UNSAVED = Counter(
    "headrace_positions_unsaved",
    "Writes whose position Redis did not store at once, by what their response then waited for.",
    ["outcome"],
)
for _outcome in ("saved_late", "replayed", "given_up"):
    POSITIONS_UNSAVED.labels(_outcome)
POOL_TIMEOUTS = Counter(
    "headrace_database_pool_timeouts",
    "Times that no connection of the pool became free in time.",
    ["server"],
)
CONNECTION_HELD_SECONDS = Histogram(
    "headrace_database_connection_held_seconds",
    "How long a connection of the pool was in use at a time.",
    ["server"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
IDLE_HOLDS = Counter(
    "headrace_database_idle_holds",
    "Connections that were held idle, outside of a transaction, for DATABASE_HOLD_WARN_SECONDS.",
    ["server"],
)
CONNECTIONS_CUT = Counter(
    "headrace_database_connections_cut",
    "Connections that were cut because their server no longer answered.",
    ["server"],
)


class _Servers(Collector):
    def collect(self) -> Iterator[Metric]:
        """Yield the watcher's state of the servers."""
        up = GaugeMetricFamily(
            "headrace_database_in_rotation",
            "Whether a server gets reads (a replica) or writes (the primary).",
            labels=["server"],
        )
        lag = GaugeMetricFamily(
            "headrace_replica_lag_seconds", "How late a replica's reads are.", labels=["server"]
        )
        size = GaugeMetricFamily(
            "headrace_replica_lag_bytes", "Log not yet replayed.", labels=["server"]
        )
        busy = GaugeMetricFamily(
            "headrace_database_connections_busy",
            "This process's connections in use.",
            labels=["server"],
        )
        up.add_metric([TOPOLOGY.primary.name], float(not TOPOLOGY.primary.is_unavailable))
        busy.add_metric([TOPOLOGY.primary.name], TOPOLOGY.primary.busy)
        for server in list(TOPOLOGY.replicas.values()):
            up.add_metric([server.name], float(server.is_in_rotation))
            lag.add_metric([server.name], server.lag_seconds)
            size.add_metric([server.name], server.lag_bytes)
            busy.add_metric([server.name], server.busy)
        yield from (up, lag, size, busy)


REGISTRY.register(_Servers())
