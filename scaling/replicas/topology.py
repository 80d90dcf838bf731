"""A process's state of its database servers, in memory; only the watcher writes it."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from django.conf import settings

from scaling.replicas.decision import PRIMARY, Candidate
from scaling.replicas.health import GOOD_SAMPLES, SILENT_TICKS, PrimaryLog, Sample, fault_of

if TYPE_CHECKING:
    from scaling.replicas.position import Position

# Lag over the last ten minutes, a point a second.
HISTORY_POINTS = 600
HISTORY_SECONDS = 1.0
# The primary's positions are in memory for so long; the lag of a replica is measured up to this.
LOG_SECONDS = 120.0
# Ticks without an answer after which the primary counts as unavailable, though it refuses no
# connection: it may only be slow, and its running queries would be cut off.
PRIMARY_SILENT_TICKS = 20
# Refused connections in a row after which it counts as unavailable.
PRIMARY_FAILURES = 2


class Server:
    """One server: its last sample, and its state by it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sample: Sample | None = None
        self.silent_ticks = 0
        # Failed samples since the last good one.
        self.failures = 0
        # New connections in a row that hung, though an open one may answer.
        self.hung_connects = 0
        # Whether a connection of the pool was late, so that a new one is opened at once.
        self.is_suspect = False
        # Until the first sample.
        self.fault = "unreachable"
        self.good_samples = 0
        self.is_detached = False
        self.lag_seconds = 0.0
        self.lag_bytes = 0
        # This process's connections that are in use there, and its reads.
        self.busy = 0
        self.reads = 0
        self.history: deque[tuple[float, float, int]] = deque(maxlen=HISTORY_POINTS)
        self._noted_at = 0.0

    @property
    def is_in_rotation(self) -> bool:
        """Whether reads may go there."""
        return not self.fault and not self.is_detached and self.good_samples >= GOOD_SAMPLES

    @property
    def replayed(self) -> Position | None:
        """The server's replayed position, at the last sample."""
        return self.sample.position if self.sample is not None else None

    @property
    def is_silent(self) -> bool:
        """Whether a watched server has not answered for a moment."""
        return self.silent_ticks >= SILENT_TICKS

    @property
    def is_in_doubt(self) -> bool:
        """Whether it failed or was silent lately, so that replicas are preferred where they can."""
        return bool(self.failures) or self.is_silent

    @property
    def is_unavailable(self) -> bool:
        """Whether a primary answers no process."""
        return self.failures >= PRIMARY_FAILURES or self.silent_ticks >= PRIMARY_SILENT_TICKS

    def take(self, sample: Sample) -> None:
        """Record a sample."""
        self.sample = sample
        self.silent_ticks = 0
        self.failures = 0

    def judge(self, now: float, log: PrimaryLog, *, is_primary_gone: bool = False) -> None:
        """Decide about a replica after a tick; `is_primary_gone` is that no process hears it."""
        # Positions of writes while the replica was within its lag are stored for so long, and
        # for as long as the primary is gone (last_writes.py).
        stored_seconds = settings.POSITION_SECONDS - settings.REPLICA_MAX_LAG_SECONDS
        self.fault = fault_of(
            self.sample,
            now=now,
            silent_ticks=self.silent_ticks,
            hung_connects=self.hung_connects,
            log=log,
            max_lag_seconds=settings.REPLICA_MAX_LAG_SECONDS,
            grace_seconds=math.inf if is_primary_gone else stored_seconds,
        )
        self.good_samples = 0 if self.fault else self.good_samples + 1
        if self.sample is not None:
            self.lag_seconds = log.lag_seconds(now, self.sample.position)
            self.lag_bytes = log.lag_bytes(self.sample.position)
        if now - self._noted_at >= HISTORY_SECONDS:
            self._noted_at = now
            self.history.append((time.time(), self.lag_seconds, self.lag_bytes))


class Topology:
    """The primary and the replicas."""

    def __init__(self) -> None:
        self.primary = Server(PRIMARY)
        self.replicas: dict[str, Server] = {}
        self.log = PrimaryLog(seconds=LOG_SECONDS)
        self._turn = itertools.count()

    def candidates(self, is_ready: Callable[[str], bool]) -> Iterator[Candidate]:
        """Yield the replicas, each time beginning with another, so that equals take turns.

        `is_ready` returns whether a connection to a server is available without a wait.
        """
        servers = list(self.replicas.values())
        first = next(self._turn)
        for offset in range(len(servers)):
            server = servers[(first + offset) % len(servers)]
            yield Candidate(
                server.name,
                server.is_in_rotation,
                server.replayed,
                server.busy,
                is_ready=server.is_in_rotation and is_ready(server.name),
            )

    def server(self, name: str) -> Server | None:
        """Return a server by its alias, if it is known."""
        return self.primary if name == PRIMARY else self.replicas.get(name)

    def others_in_rotation(self, name: str) -> Iterator[str]:
        """Yield the replicas that may get reads instead of this one."""
        servers = list(self.replicas.values())
        yield from (s.name for s in servers if s.is_in_rotation and s.name != name)

    def has_serving_replica(self) -> bool:
        """Return whether any replica is in rotation."""
        return any(server.is_in_rotation for server in self.replicas.values())

    def admit_last_resort(self) -> None:
        """Put replicas without a fault into rotation at once while no other server can be read.

        One that is unstable may leave it again; without it all reads would fail.
        """
        if self.primary.is_unavailable and not self.has_serving_replica():
            for server in self.replicas.values():
                if not server.fault:
                    server.good_samples = GOOD_SAMPLES

    def set_replicas(self, names: list[str]) -> None:
        """Set the replicas; those that stay have their state."""
        self.replicas = {name: self.replicas.get(name) or Server(name) for name in names}

    def have_replayed(self, position: Position) -> bool:
        """Return whether every replica that gets reads shows the writes up to `position`."""
        return all(
            server.replayed is not None and server.replayed.covers(position)
            for server in self.replicas.values()
            if server.is_in_rotation
        )

    def is_missed(self, position: Position) -> bool:
        """Return whether any replica, in rotation or not, lacks the writes up to `position`."""
        return any(
            server.replayed is None or not server.replayed.covers(position)
            for server in self.replicas.values()
        )


TOPOLOGY = Topology()
