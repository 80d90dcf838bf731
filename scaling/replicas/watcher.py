"""Update the topology: one watcher a process, a watch a server (greenlets under gevent)."""

from __future__ import annotations

import logging
import time

from django.conf import settings

from config.background import BackgroundThread
from scaling.database_clock import CLOCK
from scaling.redis_client import RedisUnavailable
from scaling.replicas import detachment
from scaling.replicas.addresses import Addresses
from scaling.replicas.backend.holds import HOLDS
from scaling.replicas.backend.pools import abort_connections, close_pool, warm
from scaling.replicas.decision import PRIMARY
from scaling.replicas.health import Sample
from scaling.replicas.last_writes import LAST_WRITES
from scaling.replicas.primary_contact import PrimaryContact
from scaling.replicas.server_watch import ServerWatch
from scaling.replicas.topology import TOPOLOGY, Server

logger = logging.getLogger(__name__)


class Watcher:
    """Samples every server each REPLICA_CHECK_SECONDS and decides which get reads."""

    def __init__(self) -> None:
        self._addresses = Addresses()
        self._watches: dict[str, ServerWatch] = {}
        self._was_unavailable = False
        # Names of the replicas that have been healthy: at a start none has, which is no alarm.
        self._seen_healthy: set[str] = set()
        self._contact = PrimaryContact()

    def tick(self) -> None:
        """Follow the files and the operator, and judge the servers by their samples."""
        for alias in self._addresses.tick():
            if (server := TOPOLOGY.server(alias)) is not None:
                server.sample = None
            if (watch := self._watches.pop(alias, None)) is not None:
                # It may wait for the address of before.
                watch.is_over = True
        self._watch()
        HOLDS.report_idle()
        self._read_redis()
        self._judge_primary()
        now = time.monotonic()
        for server in list(TOPOLOGY.replicas.values()):
            server.silent_ticks += 1
            before = server.fault
            server.judge(now, TOPOLOGY.log, is_primary_gone=not self._contact.is_heard)
            if server.fault != before:
                self._log_change(server)
                if server.fault == "unreachable":
                    _abandon(server.name)
        TOPOLOGY.admit_last_resort()

    def close(self) -> None:
        """End the watches of all servers."""
        for watch in self._watches.values():
            watch.is_over = True
        self._watches.clear()

    def _log_change(self, server: Server) -> None:
        if server.fault:
            logger.warning("%s: %s", server.name, server.fault)
        elif server.name in self._seen_healthy:
            logger.warning("%s: is healthy again", server.name)
        else:
            self._seen_healthy.add(server.name)
            logger.info("%s: is healthy", server.name)

    def _watch(self) -> None:
        servers = {PRIMARY: TOPOLOGY.primary, **TOPOLOGY.replicas}
        for name, watch in list(self._watches.items()):
            if servers.get(name) is not watch.server:
                watch.is_over = True
                del self._watches[name]
        for name, server in servers.items():
            if name not in self._watches:
                self._watches[name] = ServerWatch(server, self._take)
                self._watches[name].start()
        now = time.monotonic()
        for watch in self._watches.values():
            watch.tick(now)

    def _take(self, server: Server, sample: Sample) -> None:
        before = server.sample
        if server is TOPOLOGY.primary:
            TOPOLOGY.log.add(sample.taken_at, sample.position, system=sample.system)
            if sample.unix_time:
                CLOCK.compare(
                    sample.unix_time, sent_at=sample.taken_at, answered_at=sample.answered_at
                )
        server.take(sample)
        if before is not None and before.started_at != sample.started_at:
            # The pool's connections are to the server of before.
            logger.warning("%s was restarted", server.name)
            server.good_samples = 0
            close_pool(server.name)

    def _read_redis(self) -> None:
        try:
            LAST_WRITES.tick()
            names = detachment.read_detached()
            self._contact.tick(time.monotonic(), heard_at=TOPOLOGY.log.heard_at)
        except RedisUnavailable:
            LAST_WRITES.distrust()
            self._contact.lose_redis(time.monotonic())
            return
        for server in TOPOLOGY.replicas.values():
            is_detached = server.name in names
            if is_detached != server.is_detached:
                logger.warning("%s is %s", server.name, "detached" if is_detached else "attached")
            server.is_detached = is_detached

    def _judge_primary(self) -> None:
        primary = TOPOLOGY.primary
        primary.silent_ticks += 1
        is_unavailable = primary.is_unavailable
        if is_unavailable and not self._was_unavailable:
            logger.warning("the primary is unavailable: reads continue, writes are refused")
            _abandon(PRIMARY)
        if self._was_unavailable and not is_unavailable:
            logger.warning("the primary is back")
            # The pool's own attempts to connect become ever rarer while a server is unavailable.
            close_pool(PRIMARY)
        self._was_unavailable = is_unavailable


def _abandon(alias: str) -> None:
    """Abort all waits for a server that does not answer."""
    abort_connections(alias)
    close_pool(alias)


class _WatcherThread(BackgroundThread):
    name = "watch-databases"
    ticks_at_once = True

    def prepare(self) -> None:
        self._watcher = Watcher()

    @property
    def interval_seconds(self) -> float:
        seconds: float = settings.REPLICA_CHECK_SECONDS
        return seconds

    def tick(self) -> None:
        self._watcher.tick()
        for server in list(TOPOLOGY.replicas.values()):
            if not server.fault:
                warm(server.name)


_WATCHER = _WatcherThread()
# Starts this process's watcher, once.
start = _WATCHER.start
