"""Probe the servers' status from a command, which has no watcher."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from django.conf import settings

from scaling.redis_client import RedisUnavailable
from scaling.replicas import detachment, report
from scaling.replicas.health import GOOD_SAMPLES, SILENT_TICKS
from scaling.replicas.process_metrics import ProcessMetrics, collect
from scaling.replicas.report import Report
from scaling.replicas.topology import TOPOLOGY, Server
from scaling.replicas.watcher import Watcher

# Enough for a healthy server to get into rotation, and for one that is not to get its fault.
MIN_TICKS = GOOD_SAMPLES + SILENT_TICKS


class StatusProbe:
    """The servers' status by a watcher of its own, and the metrics of the processes at `addresses`.

    It judges exactly as the nodes do, with the same watcher, whose tick it calls by itself.
    """

    def __init__(self, addresses: Callable[[], Iterable[str]]) -> None:
        # The report has all that the watcher would log.
        logging.getLogger("scaling.replicas").setLevel(logging.ERROR)
        self._addresses = addresses
        self._watcher = Watcher()
        self._figures = ProcessMetrics()
        self._ticks = 0
        # The primary's first position.
        self._first: int | None = None

    def wait_until_stable(self) -> None:
        """Watch until the status of every server is stable.

        A replica that lags is watched until it has replayed the primary's first position, or lags
        more than it may: only then is its lag known.
        """
        while self._ticks < MIN_TICKS or any(map(self._is_unstable, TOPOLOGY.replicas.values())):
            self.tick()

    def watch(self, seconds: float) -> None:
        """Watch for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.tick()

    def tick(self) -> None:
        """Watch for REPLICA_CHECK_SECONDS."""
        self._watcher.tick()
        self._ticks += 1
        if self._first is None and TOPOLOGY.log.latest is not None:
            self._first = TOPOLOGY.log.latest.lsn
        time.sleep(settings.REPLICA_CHECK_SECONDS)

    def report(self) -> Report:
        """Return the servers' status; the share of reads is that since the last report."""
        figures = collect(self._addresses())
        made = report.make(TOPOLOGY, figures.since(self._figures), notes=_notes(figures))
        self._figures = figures
        return made

    def _is_unstable(self, server: Server) -> bool:
        if server.fault or server.replayed is None or self._first is None:
            return False
        return server.replayed.lsn < self._first


def _notes(figures: ProcessMetrics) -> list[str]:
    notes = []
    if not TOPOLOGY.replicas:
        notes.append("There are no replicas: DATABASE_REPLICA_URLS names none.")
    if not figures.processes:
        notes.append(
            "Pools and shares of reads are unknown: no node of the embedded stack answers."
        )
    if figures.silent:
        notes.append(f"{figures.silent} of the stack's processes sent no figures.")
    try:
        detachment.read_detached()
    except RedisUnavailable as error:
        notes.append(f"Redis does not answer which replicas are detached: {error}.")
    return notes
