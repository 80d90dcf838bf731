"""Recent decisions and measurements, in Redis.

The decisions are for people. They also give an autoscaler that starts the time of the last change,
and the measurements spare it to watch for ten minutes what the one before it has seen.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fleet.autoscale.decision import Decision, Kind, Snapshot, State
from scaling import redis_client

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")

MAX_DECISIONS = 1000
# Of the usual interval of two seconds, somewhat more than the ten minutes of the usual policies.
MAX_SNAPSHOTS = 400
# Without a change of mind, a decision is written down so often.
REPEAT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A decision as it is stored; `values` are those of the newest snapshot."""

    fleet: str
    at: float
    kind: str
    size: int | None
    target: int | None
    reason: str
    values: Mapping[str, float]

    @classmethod
    def of(cls, fleet: str, decision: Decision, snapshot: Snapshot) -> Entry:
        """Return the entry of a decision."""
        return cls(
            fleet=fleet,
            at=snapshot.at,
            kind=decision.kind.value,
            size=decision.size,
            target=decision.target,
            reason=decision.reason,
            values=snapshot.values,
        )

    def is_new(self, before: Entry | None) -> bool:
        """Return whether this differs from the one before it and is to be stored."""
        if before is None or self.kind in (Kind.UP, Kind.DOWN):
            return True
        same = (self.kind, self.size, self.target) == (before.kind, before.size, before.target)
        return not same or not 0 <= self.at - before.at < REPEAT_SECONDS

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def add(entry: Entry) -> None:
    """Store a decision, and drop the oldest; raises RedisUnavailable."""
    _push(_decisions_key(entry.fleet), entry.as_dict(), MAX_DECISIONS)


def read(fleet: str, *, count: int = MAX_DECISIONS) -> list[Entry]:
    """Return a fleet's last decisions, the newest first; raises RedisUnavailable."""
    return _read(Entry, _decisions_key(fleet), count)


def last_state(entries: Sequence[Entry]) -> State:
    """Return when the newest changes were."""
    newest = {kind: next((e.at for e in entries if e.kind == kind), None) for kind in Kind}
    return State(up_at=newest[Kind.UP], down_at=newest[Kind.DOWN])


def add_snapshot(fleet: str, snapshot: Snapshot) -> None:
    """Store a measurement; raises RedisUnavailable."""
    _push(_snapshots_key(fleet), asdict(snapshot), MAX_SNAPSHOTS)


def read_snapshots(fleet: str) -> list[Snapshot]:
    """Return the last measurements, the oldest first; raises RedisUnavailable."""
    return _read(Snapshot, _snapshots_key(fleet), MAX_SNAPSHOTS)[::-1]


def _push(key: str, row: Mapping[str, Any], most: int) -> None:
    def push(client: Redis) -> None:
        pipeline = client.pipeline(transaction=False)
        pipeline.lpush(key, json.dumps(row))
        pipeline.ltrim(key, 0, most - 1)
        pipeline.execute()

    redis_client.run(push)


def _read(kind: type[T], key: str, count: int) -> list[T]:
    def ask(client: Redis) -> list[bytes]:
        return cast("list[bytes]", client.lrange(key, 0, count - 1))

    found = []
    for row in redis_client.run(ask):
        # What another release wrote in another shape is not worth stopping for.
        with contextlib.suppress(ValueError, TypeError):
            found.append(kind(**json.loads(row)))
    return found


def _decisions_key(fleet: str) -> str:
    return f"headrace:autoscale:decisions:{fleet}"


def _snapshots_key(fleet: str) -> str:
    return f"headrace:autoscale:snapshots:{fleet}"
