"""`replicas add`: a server more, by base backup."""

from django.conf import settings

from fleet.cluster.errors import ClusterError
from fleet.cluster.ports import free_ports
from fleet.cluster.replicas.running import RunningStack


def add(stack: RunningStack) -> str:
    """Make a replica, start it, and let all processes read from it; return its name.

    Cut short, it leaves nothing that the next call does not remove.
    """
    servers = stack.servers
    if servers.primary.is_in_recovery() is not False:
        raise ClusterError(
            f"{servers.topology.primary}, the primary, does not answer; promote a replica first."
        )
    name = servers.topology.next_name()
    (port,) = free_ports(1, avoid={settings.PORT, settings.STATS_PORT, *servers.ports.values()})
    servers = servers.changed(servers.topology.with_replica(name), ports={name: port})
    replica = servers.replica(name)
    discard(stack, name)
    stack.on_progress(f"{name}: {replica.create()}")
    try:
        stack.start(replica)
    except ClusterError:
        discard(stack, name)
        raise
    stack.on_progress(f"{name}: streams at {replica.id.address}")
    servers.topology.save(stack.layout.topology_file)
    servers.publish()
    return name


def discard(stack: RunningStack, name: str) -> None:
    """Stop a server that does not count, if it runs, and let supervisord forget it."""
    if stack.supervisord.find(name) is not None:
        stack.stop(name)
        stack.supervisord.remove(name)
