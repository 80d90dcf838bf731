"""Measure every part of the running stack once."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
from django.conf import settings
from django.db import DatabaseError, connection
from prometheus_client.parser import text_string_to_metric_families
from psycopg_pool import PoolTimeout

from scaling.cluster import status
from scaling.cluster.layout import Layout
from scaling.cluster.status import PartStatus
from scaling.database import release_connections
from scaling.haproxy import BACKEND

TIMEOUT_SECONDS = 2.0
MAX_SCRAPES = 16

# The value of each series by its name and its labels.
Metrics = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, kw_only=True)
class PartSample:
    """One part; `cpu_seconds` since its start, processes that it started included."""

    status: PartStatus
    cpu_seconds: float
    memory_bytes: int
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class Sample:
    """All parts at the time `at`, a monotonic clock; `waiting_jobs` is None when nobody can say."""

    at: float
    url: str | None
    parts: list[PartSample]
    proxy: Metrics
    waiting_jobs: int | None


def measure(layout: Layout) -> Sample:
    """Ask supervisord, HAProxy, the parts and the database; what does not answer is left out."""
    found = status.read(layout)
    scrapes = [_metrics_url(part) for part in found.parts]
    proxy_url = f"http://127.0.0.1:{settings.STATS_PORT}/metrics?scope=server&no-maint"
    with ThreadPoolExecutor(MAX_SCRAPES) as threads:
        proxy, *texts = threads.map(_fetch, [proxy_url, *scrapes])
    parts = [
        PartSample(
            status=part,
            cpu_seconds=cpu_seconds,
            memory_bytes=memory_bytes,
            metrics=parse(text, prefixes=("headrace_",)),
        )
        for part, text in zip(found.parts, texts, strict=True)
        for cpu_seconds, memory_bytes in [_usage(part.pid)]
    ]
    return Sample(
        at=time.monotonic(),
        url=found.url,
        parts=parts,
        proxy=parse(proxy, prefixes=("haproxy_server_",)),
        waiting_jobs=_waiting_jobs() if found.url else None,
    )


def parse(text: str, *, prefixes: tuple[str, ...]) -> Metrics:
    """Return the series of a text in Prometheus's format whose names begin like this."""
    # Most of a scrape is of no interest, and parsing is slow.
    lines = [line for line in text.splitlines() if line.startswith(prefixes)]
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families("\n".join(lines) + "\n")
        for sample in family.samples
    }


def total(metrics: Metrics, name: str, **labels: str) -> float:
    """Return the sum of the series of a name that have these labels."""
    wanted = labels.items()
    return sum(
        value for (found, labels), value in metrics.items() if found == name and wanted <= labels
    )


def of_server(proxy: Metrics, name: str, server: str) -> float:
    """Return one of HAProxy's figures for a node."""
    return total(proxy, f"haproxy_server_{name}", proxy=BACKEND, server=server)


def _metrics_url(part: PartStatus) -> str | None:
    is_scraped = part.kind in ("node", "worker") and part.state in ("ready", "draining")
    return f"http://{part.address}/metrics" if is_scraped else None


def _fetch(url: str | None) -> str:
    if url is None:
        return ""
    try:
        # The addresses are the stack's own.
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            text: str = answer.read().decode("utf-8")
            return text
    except (OSError, urllib.error.URLError):
        return ""


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
    # Jobs are in a room above this one; their table is all that is asked of them.
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM jobs_job WHERE status = 'queued'")
            return int(cursor.fetchone()[0])
    except (DatabaseError, PoolTimeout):
        return None
    finally:
        release_connections()
