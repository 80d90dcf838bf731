"""Make the recorded roles true: the last part of a promotion, and the repair of one cut short."""

import time
from dataclasses import dataclass

from fleet.cluster.errors import ClusterError
from fleet.cluster.postgres.replica import Replica
from fleet.cluster.postgres.servers import Servers
from fleet.cluster.replicas.running import RunningStack, until

FOLLOW_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Settled:
    """`writable_at` is when all could know of the primary (a monotonic clock)."""

    writable_at: float
    replicas: dict[str, str]


def settle(stack: RunningStack, servers: Servers) -> Settled:
    """Promote the recorded primary if that is left to do, and let all others follow it.

    May be called again at any time. Raises `ClusterError` naming the server that does not follow.
    """
    primary, replicas = servers.primary, servers.replicas
    name = primary.id.name
    if primary.is_in_recovery() is None:
        raise ClusterError(f"{name}, the recorded primary, does not answer.")
    if primary.promote():
        stack.on_progress(f"{name}: promoted")
    primary.make_slots(servers.topology.replicas)
    standing = {r.id.name for r in replicas if r.is_standby and _pid(stack, r.id.name)}
    servers.publish(without=frozenset(servers.topology.replicas) - standing)
    writable_at = time.monotonic()
    stack.on_progress(f"{name}: accepts writes at {primary.id.address}")

    stack.supervisord.describe(primary.id, primary.program())
    primary.reload(_pid(stack, name))
    for replica in replicas:
        if replica.id.name in standing:
            stack.supervisord.describe(replica.id, replica.program())
            replica.reload(_pid(stack, replica.id.name))
    joined = {replica.id.name: _join(stack, replica, standing) for replica in replicas}
    servers.publish()
    for replica in replicas:
        # From the time when it was the primary.
        if replica.is_ready():
            replica.drop_slots()
    primary.drop_slots(except_of=servers.topology.replicas)
    return Settled(writable_at=writable_at, replicas=joined)


def _join(stack: RunningStack, replica: Replica, standing: set[str]) -> str:
    name = replica.id.name
    is_diverged = False
    if name in standing:
        if until(replica.is_ready, seconds=FOLLOW_SECONDS):
            stack.on_progress(f"{name}: follows")
            return "follows"
        if replica.is_in_recovery() is None:
            stack.on_progress(f"{name}: does not answer; it follows when it is back")
            return "does not answer"
        # It has received WAL that the new primary never had.
        is_diverged = True
    stack.stop(name)
    how = replica.create(from_scratch=is_diverged)
    stack.on_progress(f"{name}: {how}")
    stack.start(replica)
    stack.on_progress(f"{name}: follows")
    return str(how)


def _pid(stack: RunningStack, name: str) -> int:
    process = stack.supervisord.find(name)
    return process.pid if process else 0
