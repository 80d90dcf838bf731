"""`replicas remove`: a server less."""

import shutil
import time

from django.conf import settings

from fleet.cluster.errors import ClusterError
from fleet.cluster.postgres.topology import number_of
from fleet.cluster.replicas.add import discard
from fleet.cluster.replicas.running import RunningStack

# Every process has read the new list by then, and finished what it was reading.
OBEY_SECONDS = 2.0


def remove(stack: RunningStack, name: str) -> None:
    """Remove a replica from rotation, stop it, and delete its data and its slot.

    Cut short, it may be called again.
    """
    number_of(name)
    servers, topology = stack.servers, stack.servers.topology
    if name == topology.primary:
        raise ClusterError(f"{name} is the primary; promote another server first.")
    data_dir = stack.layout.state_dir / name
    is_left_over = name in servers.ports or data_dir.exists()
    if name not in topology.replicas and not is_left_over:
        raise ClusterError(f"There is no server {name}; there are {', '.join(topology.names)}.")
    if topology.replicas == (name,) and settings.EMBEDDED_SYNCHRONOUS_COMMIT == "remote_apply":
        raise ClusterError(
            f"{name} is the only replica, and EMBEDDED_SYNCHRONOUS_COMMIT=remote_apply needs one."
        )
    if name in topology.replicas:
        servers = servers.changed(topology.without(name))
        servers.topology.save(stack.layout.topology_file)
        servers.publish()
        stack.on_progress(f"{name}: no longer receives reads")
        time.sleep(OBEY_SECONDS)
    discard(stack, name)
    if servers.primary.is_in_recovery() is False:
        servers.primary.drop_slot(name)
    else:
        stack.on_progress(
            f"{name}: its slot is dropped at the next start: the primary does not answer"
        )
    shutil.rmtree(data_dir, ignore_errors=True)
    stack.on_progress(f"{name}: stopped and deleted")
