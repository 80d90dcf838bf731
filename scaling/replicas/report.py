"""A report on the servers for operators: one process's state, and metrics of the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from django.conf import settings
from django.db import connections

from scaling.replicas.decision import PRIMARY
from scaling.replicas.position import lsn_text
from scaling.replicas.process_metrics import ProcessMetrics
from scaling.replicas.topology import Server, Topology

GOOD = ("in rotation", "primary", "the primary")
HEADINGS = (
    *("name", "role", "state", "lag bytes", "lag s", "LSN"),
    *("clients", "pool", "reads", "used by", "address"),
)


@dataclass(frozen=True, kw_only=True)
class ServerReport:
    """One server.

    `state` is `primary`, `in rotation`, `returning` (healthy, but not for long enough), `detached`,
    `the primary` (a replica's URL that leads to it, as after a failover), or the fault:
    `unreachable`, `hanging`, `promoted`, `other_cluster`, `other_timeline` or `lagging`. None is
    unknown: without any other process there are no counts of reads and connections of pools.
    """

    name: str
    role: str
    address: str
    state: str
    lag_bytes: int | None
    lag_seconds: float | None
    lsn: str | None
    timeline: int | None
    connections: int | None
    pool_busy: int | None
    pool_max: int | None
    reads: int | None
    reads_share: float | None
    # Of the scraped processes, those that send it reads, or writes for the primary.
    used_by: int | None

    @property
    def is_healthy(self) -> bool:
        """Whether it is in use, as it should be."""
        return self.state in GOOD


@dataclass(frozen=True, kw_only=True)
class Report:
    """All servers, the primary first; `processes` is the number of scraped processes."""

    servers: list[ServerReport]
    processes: int
    notes: list[str]

    @property
    def is_healthy(self) -> bool:
        """Whether every server is in use, as it should be."""
        return all(server.is_healthy for server in self.servers)

    def as_dict(self) -> dict[str, object]:
        """Return it ready for JSON."""
        return asdict(self)


def make(topology: Topology, figures: ProcessMetrics, *, notes: Iterable[str] = ()) -> Report:
    """Return a report on the state in memory."""
    servers = [topology.primary, *topology.replicas.values()]
    # Without servers that are gone, which the processes still count.
    everything = sum(figures.reads[server.name] for server in servers)
    return Report(
        servers=[_server(server, topology.primary, figures, everything) for server in servers],
        processes=figures.processes,
        notes=[*notes],
    )


def address_of(name: str) -> str:
    """Return a server's host and port, or several, and never more of its URL."""
    entry = connections.settings.get(name, {})
    hosts = str(entry.get("HOST") or "localhost").split(",")
    ports = str(entry.get("PORT") or 5432).split(",")
    ports = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
    return ",".join(f"{host}:{port}" for host, port in zip(hosts, ports, strict=True))


def state_of(server: Server, primary: Server | None = None) -> str:
    """Return a server's state in a word or two."""
    if server.name == PRIMARY:
        return "unreachable" if server.sample is None or server.is_unavailable else "primary"
    if server.fault == "promoted" and primary is not None and _are_one(server, primary):
        return "the primary"
    if server.fault:
        return server.fault
    if server.is_detached:
        return "detached"
    return "in rotation" if server.is_in_rotation else "returning"


def table(report: Report) -> str:
    """Return a report as a table for a terminal."""
    rows = [HEADINGS, *(_row(server, report.processes) for server in report.servers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *report.notes])


def _are_one(server: Server, other: Server) -> bool:
    # To the microsecond, so that no two servers begin at one time.
    if server.sample is None or other.sample is None:
        return False
    return server.sample.started_at == other.sample.started_at


def _server(
    server: Server, primary: Server, figures: ProcessMetrics, everything: int
) -> ServerReport:
    name, sample, is_primary = server.name, server.sample, server.name == PRIMARY
    is_counted = figures.processes > 0
    pool = settings.DATABASE_POOL if is_primary else settings.REPLICA_POOL
    reads = figures.reads.get(name, 0)
    return ServerReport(
        name=name,
        role="primary" if is_primary else "replica",
        address=address_of(name),
        state=state_of(server, primary),
        lag_bytes=None if is_primary or sample is None else server.lag_bytes,
        lag_seconds=None if is_primary or sample is None else round(_lag(server, figures), 2),
        lsn=lsn_text(sample.position.lsn) if sample else None,
        timeline=sample.position.timeline if sample else None,
        connections=sample.connections if sample else None,
        pool_busy=figures.busy.get(name, 0) if is_counted else None,
        # None too without a pool, where the maximum is 0.
        pool_max=int(pool["max_size"]) * figures.processes or None,
        reads=reads if is_counted else None,
        reads_share=round(reads / everything, 4) if is_counted and everything else None,
        used_by=figures.used_by.get(name, 0) if is_counted else None,
    )


def _lag(server: Server, figures: ProcessMetrics) -> float:
    # The others have watched for longer, and so have the lag of a replica that lags too much.
    if server.fault != "lagging":
        return server.lag_seconds
    return max(server.lag_seconds, figures.lag_seconds.get(server.name, 0.0))


def _row(server: ServerReport, processes: int) -> tuple[str, ...]:
    return (
        server.name,
        server.role,
        server.state,
        _text(server.lag_bytes),
        "-" if server.lag_seconds is None else f"{server.lag_seconds:.1f}",
        _text(server.lsn),
        _text(server.connections),
        "-" if server.pool_busy is None else f"{server.pool_busy}/{_text(server.pool_max)}",
        "-" if server.reads_share is None else f"{server.reads_share:.0%}",
        "-" if server.used_by is None else f"{server.used_by}/{processes}",
        server.address,
    )


def _text(value: object) -> str:
    return "-" if value is None else str(value)
