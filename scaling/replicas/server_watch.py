"""Watch one server: sample it each REPLICA_CHECK_SECONDS, and open new connections to its name."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import psycopg
from django.conf import settings

from scaling.replicas.backend.pools import close_pool, renew_pool
from scaling.replicas.health import Sample
from scaling.replicas.sampling import Sampler
from scaling.replicas.topology import TOPOLOGY, Server

logger = logging.getLogger(__name__)

# A query without an answer for so long is aborted, and sent over a new connection: the name may
# lead to another server by now. The host of a server that lost its power refuses nothing.
ANSWER_SECONDS = 3.0


class ServerWatch:
    """One thread that samples, and for a moment every DATABASE_PROBE_SECONDS one that connects.

    The open connection of a server whose postmaster hangs still answers, and that of a server whose
    name has moved still leads to the old one. A new connection detects both, and replaces the old
    one.
    """

    def __init__(self, server: Server, take: Callable[[Server, Sample], None]) -> None:
        self.server = server
        self.is_over = False
        self._take = take
        self._sampler = Sampler(server.name)
        self._is_probing = False
        self._probed_at = time.monotonic()

    def start(self) -> None:
        """Start to sample."""
        name = f"watch-{self.server.name}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def tick(self, now: float) -> None:
        """Abort a query that hangs, and open a new connection when that is due."""
        sent_at = self._sampler.sent_at
        if sent_at is not None and now - sent_at > ANSWER_SECONDS:
            self._sampler.interrupt()
        is_due = now - self._probed_at >= settings.DATABASE_PROBE_SECONDS
        if self._is_probing or not (is_due or self.server.is_suspect or self.server.hung_connects):
            return
        self._is_probing = True
        self._probed_at = now
        self.server.is_suspect = False
        name = f"probe-{self.server.name}"
        threading.Thread(target=self._probe, name=name, daemon=True).start()

    def _run(self) -> None:
        while not self.is_over:
            started = time.monotonic()
            try:
                sample = self._sampler.sample()
                if self.is_over:
                    break
                if self.server.failures and self.server is not TOPOLOGY.primary:
                    # It may have been unavailable for too short a time to leave the rotation. The
                    # pool's own attempts to connect become ever rarer, and reads that another
                    # server can answer would wait for them.
                    close_pool(self.server.name)
                if self.server is TOPOLOGY.primary and sample.is_in_recovery:
                    # The name of a server that is not, or no longer, the primary.
                    self.server.failures += 1
                    self._sampler.leave()
                else:
                    self._take(self.server, sample)
            except (psycopg.Error, KeyError, OSError) as error:
                self._fail()
                logger.debug("%s does not answer: %s", self.server.name, error)
            # The outermost tick of the loop: without it the server would stay unavailable.
            except Exception:
                self._fail()
                logger.exception("probing %s failed", self.server.name)
            left = settings.REPLICA_CHECK_SECONDS - (time.monotonic() - started)
            time.sleep(max(0.01, left))
        self._sampler.close()

    def _fail(self) -> None:
        if not self.is_over:
            self.server.failures += 1

    def _probe(self) -> None:
        try:
            connection = self._sampler.connect()
        except psycopg.errors.ConnectionTimeout:
            if not self.is_over:
                self.server.hung_connects += 1
        # A refused connection means nothing as long as others answer: there may be too many.
        except (psycopg.Error, KeyError, OSError) as error:
            logger.debug("%s refused a connection: %s", self.server.name, error)
        else:
            if self.server.hung_connects:
                self.server.hung_connects = 0
                # Its own attempts to connect become ever rarer.
                renew_pool(self.server.name)
            self._sampler.offer(connection)
            if self.is_over:
                self._sampler.close()
        finally:
            self._is_probing = False
