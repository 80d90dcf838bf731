"""Measure every process of the running stack once."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
from django.conf import settings
from django.db import DatabaseError
from psycopg_pool import PoolTimeout

from fleet.cluster import status
from fleet.cluster.paths import Layout
from fleet.cluster.status import ProcessStatus
from fleet.haproxy import BACKEND
from jobs.queue.backlog import count_queued
from scaling.connections import release_connections
from scaling.scrape import Metrics, ScrapeError, scrape, total

MAX_SCRAPES = 16


@dataclass(frozen=True, kw_only=True)
class ProcessSample:
    """One process; `cpu_seconds` since its start, processes that it started included."""

    status: ProcessStatus
    cpu_seconds: float
    memory_bytes: int
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class Sample:
    """All processes at the monotonic time `at`; `waiting_jobs` is None when it is unknown."""

    at: float
    url: str | None
    processes: list[ProcessSample]
    proxy: Metrics
    waiting_jobs: int | None


def measure(layout: Layout) -> Sample:
    """Query supervisord, HAProxy, the processes and the database; those that fail are left out."""
    found = status.read(layout)
    with ThreadPoolExecutor(MAX_SCRAPES) as threads:
        proxy = threads.submit(
            read_metrics,
            f"127.0.0.1:{settings.STATS_PORT}",
            "haproxy_server_",
            "?scope=server&no-maint",
        )
        scrapes = threads.map(
            lambda process: read_metrics(_address(process), "headrace_"), found.parts
        )
    processes = [
        ProcessSample(
            status=process,
            cpu_seconds=cpu_seconds,
            memory_bytes=memory_bytes,
            metrics=metrics,
        )
        for process, metrics in zip(found.parts, scrapes, strict=True)
        for cpu_seconds, memory_bytes in [_usage(process.pid)]
    ]
    return Sample(
        at=time.monotonic(),
        url=found.url,
        processes=processes,
        proxy=proxy.result(),
        waiting_jobs=_waiting_jobs() if found.url else None,
    )


def of_server(proxy: Metrics, name: str, server: str) -> float:
    """Return one of HAProxy's figures for a node."""
    return total(proxy, f"haproxy_server_{name}", proxy=BACKEND, server=server)


def _address(process: ProcessStatus) -> str | None:
    is_scraped = process.kind in ("node", "worker") and process.state in ("ready", "draining")
    return process.address if is_scraped else None


def read_metrics(address: str | None, prefix: str, query: str = "") -> Metrics:
    """Return the metrics of a process; empty when it has no address, or does not answer."""
    if address is None:
        return {}
    try:
        return scrape(address, prefixes=(prefix,), query=query)
    except ScrapeError:
        return {}


def _usage(pid: int | None) -> tuple[float, int]:
    cpu_seconds, memory_bytes = 0.0, 0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
            cpu_seconds += times.user + times.system
            memory_bytes += process.memory_info().rss
        except psutil.Error:
            continue
    return cpu_seconds, memory_bytes


def _tree(pid: int | None) -> Iterable[psutil.Process]:
    if pid is None:
        return []
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _waiting_jobs() -> int | None:
    try:
        return count_queued()
    except (DatabaseError, PoolTimeout):
        return None
    finally:
        release_connections()
