"""Look at the servers from a command, which has no watcher of its own until it makes one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from django.conf import settings

from scaling.redis_client import RedisUnavailable
from scaling.replicas import control, report
from scaling.replicas.health import GOOD_SAMPLES, SILENT_TICKS
from scaling.replicas.process_metrics import Figures, collect
from scaling.replicas.report import Report
from scaling.replicas.topology import TOPOLOGY, Server
from scaling.replicas.watcher import Watcher

# Enough for a server that is well to be in rotation, and for one that is not to be given up.
LEAST_TICKS = GOOD_SAMPLES + SILENT_TICKS


class Look:
    """The servers as the process's own watcher sees them, and as `addresses`'s processes count.

    It judges exactly as the nodes do, with the same watcher, whose tick it calls by itself.
    """

    def __init__(self, addresses: Callable[[], Iterable[str]]) -> None:
        # What the watcher would log is what the report says.
        logging.getLogger("scaling.replicas").setLevel(logging.ERROR)
        self._addresses = addresses
        self._watcher = Watcher()
        self._figures = Figures()
        self._ticks = 0
        # Where the primary was at first.
        self._first: int | None = None

    def settle(self) -> None:
        """Watch until it is known how every server is.

        A replica that is late is watched until it has replayed what the primary had written at
        first, or is later than it may be: only then is it known how late it is.
        """
        while self._ticks < LEAST_TICKS or any(map(self._is_unsure, TOPOLOGY.replicas.values())):
            self.tick()

    def watch(self, seconds: float) -> None:
        """Go on watching for so long."""
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
        """Return how the servers are; the share of reads is that since the last report."""
        figures = collect(self._addresses())
        made = report.make(TOPOLOGY, figures.since(self._figures), notes=_notes(figures))
        self._figures = figures
        return made

    def _is_unsure(self, server: Server) -> bool:
        if server.fault or server.replayed is None or self._first is None:
            return False
        return server.replayed.lsn < self._first


def _notes(figures: Figures) -> list[str]:
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
        control.detached()
    except RedisUnavailable as error:
        notes.append(f"Redis does not answer which replicas are detached: {error}.")
    return notes
