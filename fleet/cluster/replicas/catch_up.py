"""Catch-up of a replica with the WAL of a primary, alive or dead."""

import psycopg

from fleet.cluster.errors import ClusterError
from fleet.cluster.postgres.primary import Primary
from fleet.cluster.postgres.replica import Replica
from fleet.cluster.replicas.running import RunningStack, until
from fleet.cluster.replicas.wal import commits_after, read_end

CATCH_UP_SECONDS = 30.0
# So little is sent while the primary stops.
NEAR_BYTES = 1024 * 1024
RECEIVE_SECONDS = 5.0


def catch_up(stack: RunningStack, primary: Primary, candidate: Replica) -> None:
    """Wait until the candidate is close behind, so that the time without a primary is short.

    Raises `ClusterError` when it does not stream, or stays behind.
    """
    name = candidate.id.name
    if not until(candidate.is_ready, seconds=RECEIVE_SECONDS):
        raise ClusterError(f"{name} does not stream from {primary.id.name}; nothing was changed.")
    stack.on_progress(f"{primary.id.name}: writing a checkpoint, so that it stops soon")
    silent = [
        replica.id.name for replica in stack.servers.replicas if replica.is_in_recovery() is None
    ]
    with primary.connect() as connection:
        connection.execute("CHECKPOINT")
        # A primary does not end before every replica that is connected has everything.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_replication"
            " WHERE application_name = ANY(%s)",
            [silent],
        )

    def behind() -> int:
        return primary.flushed() - candidate.received()

    if not until(lambda: behind() < NEAR_BYTES, seconds=CATCH_UP_SECONDS):
        raise ClusterError(f"{name} is {behind()} bytes behind; nothing was changed.")


def await_all(stack: RunningStack, old: Primary, candidate: Replica) -> int:
    """Wait until the candidate has received all it can of a stopped primary's WAL.

    Returns how many commits it lacks. What is received is replayed before a promotion ends.
    """
    end = read_end(old)

    def has_all() -> bool:
        return candidate.received() > end.checkpoint

    # A primary that stops in order sends everything first; a killed one's last bytes may be on
    # their way.
    if end.is_clean and until(has_all, seconds=RECEIVE_SECONDS):
        return 0
    until(lambda: not candidate.is_connected(), seconds=RECEIVE_SECONDS)
    _receive_from_others(stack, candidate)
    return commits_after(old, candidate.received(), timeline=end.timeline)


def _receive_from_others(stack: RunningStack, candidate: Replica) -> None:
    """Stream to the candidate the WAL that another replica has more of."""
    others = {}
    for replica in stack.servers.replicas:
        if replica.id.name != candidate.id.name:
            try:
                others[replica] = replica.received()
            except psycopg.Error:
                continue
    if not others:
        return
    best = max(others, key=lambda replica: others[replica])
    if others[best] <= candidate.received():
        return
    stack.on_progress(f"{candidate.id.name}: receiving from {best.id.name}, which has more")
    best.make_slots([candidate.id.name])
    process = stack.supervisord.find(candidate.id.name)
    if process and process.pid:
        stack.servers.replica(candidate.id.name, primary=best).reload(process.pid)
    if not until(lambda: candidate.received() >= others[best], seconds=RECEIVE_SECONDS * 2):
        raise ClusterError(
            f"{candidate.id.name} does not receive the log that {best.id.name} has; "
            f"promote {best.id.name} instead."
        )
