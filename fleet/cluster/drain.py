"""`cluster drain` and `cluster undrain`: a node out of rotation, and in it again."""

from collections.abc import Callable

from fleet.cluster.errors import ClusterError
from fleet.cluster.node import Node
from fleet.cluster.node_pool import NodeOrWorker, NodePool, hold
from fleet.cluster.paths import Layout


def drain(layout: Layout, name: str, *, on_progress: Callable[[str], None]) -> None:
    """Remove a node from rotation: it finishes its requests, and runs on.

    Raises `ClusterError`, also when no other node would be left.
    """
    with hold(layout, on_progress=on_progress) as pool:
        node = _node(pool, name)
        if pool.in_rotation() <= {name}:
            raise ClusterError(f"No other node than {name} takes requests; nothing was changed.")
        pool.leave(node)
        on_progress(f"{name}: gets no more requests")


def undrain(layout: Layout, name: str, *, on_progress: Callable[[str], None]) -> None:
    """Return a node to rotation, once it is ready; raise `ClusterError` when it is not."""
    with hold(layout, on_progress=on_progress) as pool:
        node = _node(pool, name)
        layout.drain_file(name).unlink(missing_ok=True)
        pool.await_ready(node)
        pool.enter(node)
        on_progress(f"{name}: takes requests")


def _node(pool: NodePool, name: str) -> NodeOrWorker:
    found = pool.find(name)
    if not isinstance(found, Node):
        raise ClusterError(f"{name} is not a node; a worker is drained by stopping it.")
    return found
