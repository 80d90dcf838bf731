"""A gevent worker that drains before it stops.

gunicorn's own closes its listening socket at the signal to stop, so that a client that connects a
moment later is refused, and it starts a successor only when the last connection of a recycled
worker has ended, idle ones among them. This one

- on SIGTERM reports that it is not ready and accepts on for `settle_seconds`, until load balancers
  have seen it; then it accepts no more, and finishes the requests that it has;
- when it is due to be recycled, has its successor started first, and stops when that one accepts.
  Both listen on the same socket, so that no connection is refused in between.

In both cases answers get `drain_seconds`; those that still run then must end (node.draining).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.workers.ggevent import GeventWorker

from node import fair_sockets, resolver
from node.draining import DRAINING
from node.memory import MEMORY, bound_allocator, rss_bytes
from node.readiness import is_ready

POLL_SECONDS = 0.2
# Reading one's memory costs a system call.
MEMORY_POLL_SECONDS = 1.0
# How long a successor may take to load, warm up and signal that it serves.
SUCCESSOR_SECONDS = 60.0
# How long answers that must end may take to send their last event.
STREAM_END_SECONDS = 3.0
CLOSE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """The settings of a node's workers that gunicorn does not have; 0 bytes are no ceiling."""

    settle_seconds: float = 0.0
    drain_seconds: float = 0.0
    drain_file: Path | None = None
    max_rss_bytes: int = 0
    dns_timeout_seconds: float = 5.0


class DrainingWorker(GeventWorker):  # type: ignore[misc]
    """One worker process of a node; config/gunicorn.conf.py's `pre_fork` sets its `settings`."""

    # Those that gunicorn sets to their defaults first.
    SIGNALS = [number for number in GeventWorker.SIGNALS if number != signal.SIGUSR2]

    alive: bool
    nr: int
    max_requests: int

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        fair_sockets.install()
        bound_allocator()
        # gunicorn's own count would stop this worker in the middle of everything.
        self._recycle_at, self.max_requests = self.max_requests, sys.maxsize
        self._is_stopping = False
        self._has_successor = False
        self._is_replaced = False
        self._began = time.monotonic()
        # Requests that are not answered to the end.
        self.in_flight = 0
        self._clients: set[Any] = set()
        self._next_memory_poll = 0.0
        # Set by the arbiter before it forks.
        self.siblings: list[int] = []
        self.settings = WorkerSettings()

    @property
    def is_successor(self) -> bool:
        """Whether the node had all its workers before this one."""
        is_later: bool = self.age > self.cfg.workers
        return is_later

    @property
    def is_alone(self) -> bool:
        """Whether no other worker of the node has requests under way."""
        if self.cfg.workers > 1 or self._is_replaced:
            return False
        return not self.is_successor or (
            time.monotonic() >= self._began + self.cfg.graceful_timeout
        )

    def init_signals(self) -> None:
        """Handle a successor's signal as well, which must at no moment end this process."""
        signal.signal(signal.SIGUSR2, self._on_successor)
        signal.siginterrupt(signal.SIGUSR2, False)
        super().init_signals()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Remember that this worker is to stop."""
        self._is_stopping = True

    def _on_successor(self, sig: int, frame: Any) -> None:
        self._has_successor = True

    def run(self) -> None:
        """Serve until stopped or due to be recycled, and drain."""
        resolver.install(timeout_seconds=self.settings.dns_timeout_seconds)
        if self.is_successor:
            self._warm_up()
        servers = [self._serve(listener) for listener in self.sockets]
        if self.is_successor:
            self._notify_siblings()
        self._wait(self._is_due)
        if not self._is_stopping:
            self._replace()
        if self._is_stopping:
            self._pre_stop()
        # From now on connections are closed with their answer.
        self.alive = False
        for server in servers:
            server.close()
        self._finish(servers)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Track the open connections."""
        self._clients.add(client)
        try:
            super().handle(listener, client, addr)
        finally:
            self._clients.discard(client)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """Count the requests under way."""
        self.in_flight += 1
        try:
            return super().handle_request(listener_name, req, sock, addr)
        finally:
            self.in_flight -= 1

    # --- Serving --------------------------------------------------------------------------------
    def _serve(self, listener: Any) -> StreamServer:
        listener.setblocking(1)
        pool = Pool(self.worker_connections)
        server = StreamServer(listener, handle=partial(self.handle, listener), spawn=pool)
        if self.cfg.workers > 1:
            server.max_accept = 1
        server.start()
        return server

    def _wait(self, is_over: Callable[[], bool], *, seconds: float | None = None) -> bool:
        """Serve on until a condition holds; return False when it did not in time."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not is_over():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self.notify()
            MEMORY.tick(time.monotonic())
            gevent.sleep(POLL_SECONDS)
        return True

    def _is_due(self) -> bool:
        """Return whether to stop; follow the file by which an operator drains the node."""
        if self.settings.drain_file is not None and not self._is_stopping:
            if self.settings.drain_file.exists():
                DRAINING.begin(time.monotonic())
            else:
                DRAINING.cancel()
        if self._is_stopping:
            return True
        if self.nr >= self._recycle_at:
            self.log.info("%d requests were answered; this worker is replaced", self.nr)
            return True
        return self._is_too_large()

    def _is_too_large(self) -> bool:
        now = time.monotonic()
        if not self.settings.max_rss_bytes or now < self._next_memory_poll:
            return False
        self._next_memory_poll = now + MEMORY_POLL_SECONDS
        if (size := rss_bytes()) <= self.settings.max_rss_bytes:
            return False
        self.log.warning("%d MB of memory are too many; this worker is replaced", size >> 20)
        return True

    # --- Being recycled -------------------------------------------------------------------------
    def _replace(self) -> None:
        """Serve until a successor does; the arbiter then counts one worker more."""
        has_started = False
        self._is_replaced = True
        while not has_started:
            self._has_successor = False
            os.kill(self.ppid, signal.SIGTTIN)
            has_started = self._wait(
                lambda: self._has_successor or self._is_stopping, seconds=SUCCESSOR_SECONDS
            )
            if not has_started:
                self.log.error("no successor in %d s; requesting one again", SUCCESSOR_SECONDS)

    def _notify_siblings(self) -> None:
        for pid in self.siblings:
            try:
                os.kill(pid, signal.SIGUSR2)
            except ProcessLookupError:
                continue

    def _warm_up(self) -> None:
        """Check the application's readiness until it is ready, so that no client meets it cold."""
        deadline = time.monotonic() + SUCCESSOR_SECONDS / 2
        while not self._is_stopping and time.monotonic() < deadline:
            self.notify()
            if is_ready(self.wsgi):
                return
            gevent.sleep(POLL_SECONDS)

    # --- Leaving --------------------------------------------------------------------------------
    def _pre_stop(self) -> None:
        """Report not ready for as long as load balancers need to see it, and serve in that time."""
        DRAINING.begin(time.monotonic())
        assert DRAINING.since is not None  # noqa: S101  (it has begun)
        left = DRAINING.since + self.settings.settle_seconds - time.monotonic()
        self._wait(lambda: False, seconds=max(0.0, left))

    def _finish(self, servers: list[StreamServer]) -> None:
        """End the accepted connections: answers within their time, idle ones of a stopped node now.

        A recycled worker's proxy still counts on its idle connections, and may be sending on one of
        them: they end with their next answer, or as any idle connection does.
        """

        def is_idle() -> bool:
            has_clients = any(server.pool for server in servers)
            return not has_clients or (self._is_stopping and not self.in_flight)

        if not self._wait(is_idle, seconds=self.settings.drain_seconds):
            if self.in_flight:
                self.log.info("%d responses are cut off now", self.in_flight)
            DRAINING.end()
            self._wait(lambda: not self.in_flight, seconds=STREAM_END_SECONDS)
            left = 0 if self._is_stopping else self.cfg.keepalive - self.settings.drain_seconds
            self._wait(is_idle, seconds=left)
        # A greenlet that waits at one reads its end, and returns; one that is killed while it waits
        # would send gunicorn's 500 first.
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._wait(lambda: not self._clients, seconds=CLOSE_SECONDS)
        for server in servers:
            server.stop(timeout=CLOSE_SECONDS)
