"""Keep the topology true: one watcher a process, a thread a server (greenlets under gevent)."""

from __future__ import annotations

import logging
import os
import threading
import time

import psycopg
from django.conf import settings

from scaling.postgres_backend.base import close_pool, cut
from scaling.postgres_backend.holds import HOLDS
from scaling.redis import RedisUnavailable
from scaling.replicas import control
from scaling.replicas.addresses import Addresses
from scaling.replicas.decision import PRIMARY
from scaling.replicas.health import Sample
from scaling.replicas.positions import POSITIONS
from scaling.replicas.sampling import Sampler
from scaling.replicas.topology import TOPOLOGY, Server

logger = logging.getLogger(__name__)


class Watcher:
    """Samples every server each REPLICA_CHECK_SECONDS and decides who gets reads."""

    def __init__(self) -> None:
        self._addresses = Addresses()
        self._watched: dict[str, Server] = {}
        self._was_away = False

    def run(self) -> None:
        """Tick for ever."""
        while True:
            try:
                self.tick()
            # The outermost tick of the loop: it must go on whatever happens.
            except Exception:
                logger.exception("watching the database servers failed")
            time.sleep(settings.REPLICA_CHECK_SECONDS)

    def tick(self) -> None:
        """Obey the files and the operator, and judge by what the samplers brought."""
        for alias in self._addresses.tick():
            if (server := TOPOLOGY.server(alias)) is not None:
                server.sample = None
        self._watch()
        HOLDS.look()
        self._ask_redis()
        self._judge_primary()
        now = time.monotonic()
        for server in list(TOPOLOGY.replicas.values()):
            server.silent_ticks += 1
            before = server.fault
            server.judge(now, TOPOLOGY.log)
            if server.fault != before:
                logger.warning("%s: %s", server.name, server.fault or "is well again")
                if server.fault == "unreachable":
                    _abandon(server.name)

    def _watch(self) -> None:
        servers = {PRIMARY: TOPOLOGY.primary, **TOPOLOGY.replicas}
        for name, server in servers.items():
            if self._watched.get(name) is not server:
                self._watched[name] = server
                threading.Thread(
                    target=self._sample, args=(server,), name=f"watch-{name}", daemon=True
                ).start()
        for name in self._watched.keys() - servers.keys():
            del self._watched[name]

    def _sample(self, server: Server) -> None:
        sampler = Sampler(server.name)
        while self._watched.get(server.name) is server:
            started = time.monotonic()
            try:
                sample = sampler.ask()
                if server.failures and server is not TOPOLOGY.primary:
                    # It may have been away for too short a time to be out of rotation. The pool's
                    # own tries to connect come ever more seldom, and reads would wait for them that
                    # another server can answer.
                    close_pool(server.name)
                self._take(server, sample)
            except (psycopg.Error, KeyError, OSError) as error:
                server.failures += 1
                logger.debug("%s does not answer: %s", server.name, error)
            # The outermost tick of the loop: without it the server would be away for ever.
            except Exception:
                server.failures += 1
                logger.exception("asking %s failed", server.name)
            left = settings.REPLICA_CHECK_SECONDS - (time.monotonic() - started)
            time.sleep(max(0.01, left))
        sampler.close()

    def _take(self, server: Server, sample: Sample) -> None:
        before = server.sample
        if server is TOPOLOGY.primary:
            if sample.is_in_recovery:
                # The address of a server that is not, or no longer, the primary.
                server.failures += 1
                return
            TOPOLOGY.log.add(sample.taken_at, sample.position, system=sample.system)
        server.take(sample)
        if before is not None and before.started_at != sample.started_at:
            # What the pool still has are connections to the server of before.
            logger.warning("%s was restarted", server.name)
            server.good_samples = 0
            close_pool(server.name)

    def _ask_redis(self) -> None:
        try:
            POSITIONS.tick()
            names = control.detached()
        except RedisUnavailable:
            POSITIONS.lose()
            return
        for server in TOPOLOGY.replicas.values():
            is_detached = server.name in names
            if is_detached != server.is_detached:
                logger.warning("%s is %s", server.name, "detached" if is_detached else "attached")
            server.is_detached = is_detached

    def _judge_primary(self) -> None:
        primary = TOPOLOGY.primary
        primary.silent_ticks += 1
        is_away = primary.is_away
        if is_away and not self._was_away:
            logger.warning("the primary is away: reads go on, writes are refused")
            _abandon(PRIMARY)
        if self._was_away and not is_away:
            logger.warning("the primary is back")
            # The pool's own tries to connect come ever more seldom while a server is away.
            close_pool(PRIMARY)
        self._was_away = is_away


def _abandon(alias: str) -> None:
    """Let nobody wait any longer for a server that does not answer."""
    cut(alias)
    close_pool(alias)


_started_in: int | None = None


def start() -> None:
    """Start this process's watcher, once."""
    global _started_in  # noqa: PLW0603  (a forked child has no threads of its parent's)
    if _started_in == os.getpid():
        return
    _started_in = os.getpid()
    threading.Thread(target=Watcher().run, name="watch-databases", daemon=True).start()
