"""`replicas promote`: another server takes the writes.

The steps, each of which may be the last one of a command that is killed:

1. The old primary is fenced: stopped, or killed when it is frozen, so that two never take writes.
2. The candidate has all that it can get; all there is when the old primary lived.
3. The new primary is recorded.
4. The rest is `settle`: what is recorded is made true.

Called again for the same name, it goes on wherever it was. A new start of the stack makes true
what is recorded: the old primary before step 3, the new one after it.
"""

import contextlib
import time
from dataclasses import asdict, dataclass

import psycopg

from fleet.cluster.errors import ClusterError
from fleet.cluster.postgres.primary import Primary
from fleet.cluster.postgres.replica import Replica
from fleet.cluster.replicas.catch_up import await_all, catch_up
from fleet.cluster.replicas.reconcile import settle
from fleet.cluster.replicas.running import RunningStack


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The result of a promotion.

    `lost_commits` were on the old primary alone; `replicas` says how each server joined.
    """

    primary: str
    old_primary: str | None
    was_planned: bool
    lost_commits: int
    seconds_without_primary: float
    replicas: dict[str, str]

    def as_dict(self) -> dict[str, object]:
        """Return it ready for JSON."""
        return asdict(self)


def promote(stack: RunningStack, name: str) -> Promotion:
    """Make a replica the primary, and the old primary a replica.

    Raises `ClusterError`; nothing is changed then, or the text says what is.
    """
    servers = stack.servers
    roles = servers.topology
    if name == roles.primary:
        return _finish(stack)
    if name not in roles.replicas:
        raise ClusterError(f"There is no replica {name}; there are {', '.join(roles.replicas)}.")
    old, candidate = servers.primary, servers.replica(name)
    in_recovery = old.is_in_recovery()
    if in_recovery:
        raise ClusterError(
            f"The promotion of {old.id.name} was cut short; "
            f"`manage.py replicas promote {old.id.name}` ends it."
        )
    if candidate.is_in_recovery() is None:
        raise ClusterError(f"{name} does not answer; nothing was changed.")
    was_planned = in_recovery is False
    if was_planned:
        catch_up(stack, old, candidate)
    candidate.make_slots({*roles.names} - {name})

    started = time.monotonic()
    try:
        stack.on_progress(f"{old.id.name}: stopping, so that it accepts no more writes")
        stack.stop(old.id.name)
        lost = _receive(stack, old, candidate, was_planned=was_planned)
    except BaseException:
        # Ctrl-C too: its user wants the primary back.
        stack.supervisord.start_again(old.id.name)
        stack.on_progress(f"{old.id.name}: started again; it still is the primary")
        with contextlib.suppress(psycopg.Error):
            candidate.drop_slots()
        raise
    changed = servers.changed(roles.promoted(name))
    changed.topology.save(stack.layout.topology_file)
    settled = settle(stack, changed)
    return Promotion(
        primary=name,
        old_primary=old.id.name,
        was_planned=was_planned,
        lost_commits=lost,
        seconds_without_primary=round(settled.writable_at - started, 3),
        replicas=settled.replicas,
    )


def _finish(stack: RunningStack) -> Promotion:
    settled = settle(stack, stack.servers)
    return Promotion(
        primary=stack.servers.topology.primary,
        old_primary=None,
        was_planned=True,
        lost_commits=0,
        seconds_without_primary=0.0,
        replicas=settled.replicas,
    )


def _receive(stack: RunningStack, old: Primary, candidate: Replica, *, was_planned: bool) -> int:
    lost = await_all(stack, old, candidate)
    if lost and was_planned:
        raise ClusterError(
            f"{candidate.id.name} did not receive the last {lost} commits of {old.id.name}."
        )
    if lost:
        stack.on_progress(
            f"{candidate.id.name}: {lost} commits were on {old.id.name} alone, and are lost"
        )
    return lost
