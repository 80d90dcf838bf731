"""Whether a replica may serve reads: pure functions of the watcher's samples."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from scaling.replicas.position import Position

# Good samples in a row before a replica comes back, so that an unstable one stays out.
GOOD_SAMPLES = 4
# So many ticks of the watcher without an answer, and a server counts as unreachable. Ticks and not
# seconds: a process that stalls itself says nothing about others.
SILENT_TICKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample of a server; `taken_at` is time.monotonic() when the query was sent."""

    taken_at: float
    is_in_recovery: bool
    # The primary's insert position, or a replica's replayed one. A replica's timeline is that of
    # the log that it last received; 0 when it is unknown.
    position: Position
    # When the server started; its replay may begin further back after that.
    started_at: str
    connections: int = 0
    # The database cluster's own number; 0 is not known.
    system: int = 0
    # The server's clock, and time.monotonic() when it had been read; 0 is not known.
    unix_time: float = 0.0
    answered_at: float = 0.0


class PrimaryLog:
    """When the primary was first seen at which position, to measure a replica's lag.

    So lag is measured by one clock, is 0 while nothing is written, and grows when a replica stalls,
    whatever that replica reports.
    """

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._seen: deque[tuple[float, int]] = deque()
        self.latest: Position | None = None
        # The primary's database cluster.
        self.system = 0
        # When the primary last answered.
        self.heard_at = 0.0

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, now: float, position: Position, *, system: int = 0) -> None:
        """Record the primary's position."""
        self.system = system
        if self.latest is not None and position.timeline != self.latest.timeline:
            self._seen.clear()
        self.latest = position
        self.heard_at = now
        if not self._seen or self._seen[-1][1] < position.lsn:
            self._seen.append((now, position.lsn))
        while len(self._seen) > 1 and self._seen[1][0] < now - self._seconds:
            self._seen.popleft()

    def lag_bytes(self, replayed: Position) -> int:
        """Return how many bytes of the primary's log are not yet replayed."""
        return 0 if self.latest is None else max(0, self.latest.lsn - replayed.lsn)

    def lag_seconds(self, now: float, replayed: Position) -> float:
        """Return for how long the primary has been ahead, up to `seconds` or a little more."""
        for seen_at, lsn in self._seen:
            if lsn > replayed.lsn:
                return now - seen_at
        return 0.0


def fault_of(
    sample: Sample | None,
    *,
    now: float,
    silent_ticks: int,
    hung_connects: int = 0,
    log: PrimaryLog,
    max_lag_seconds: float,
    grace_seconds: float,
) -> str:
    """Return why a replica may not serve reads now, in a word; the empty string if it may.

    unreachable, hanging (it answers, and accepts no new connection), promoted, other_cluster,
    other_timeline or lagging. While the primary is unavailable nothing is written, and a replica
    that had replayed all goes on. One that lacks writes that a dead primary did not send has the
    lag of that time for `grace_seconds`: so long all processes have their positions. They are
    infinite while no process hears the primary.
    """
    if sample is None or silent_ticks >= SILENT_TICKS:
        return "unreachable"
    if hung_connects:
        return "hanging"
    if not sample.is_in_recovery:
        return "promoted"
    # LastWrites in another cluster's log mean nothing here, however great they are.
    if log.system and sample.system and sample.system != log.system:
        return "other_cluster"
    # One that is ahead follows a new primary that this process has not seen yet.
    if log.latest is not None and sample.position.timeline < log.latest.timeline:
        return "other_timeline"
    is_recent = now - log.heard_at <= grace_seconds
    if log.lag_seconds(log.heard_at if is_recent else now, sample.position) > max_lag_seconds:
        return "lagging"
    return ""
