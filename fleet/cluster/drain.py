"""`cluster drain` and `cluster undrain`: a node out of rotation, and in it again."""

from collections.abc import Callable

from fleet.cluster.errors import ClusterError
from fleet.cluster.fleet import Fleet, Member, hold
from fleet.cluster.node import Node
from fleet.cluster.paths import Layout


def drain(layout: Layout, name: str, *, on_progress: Callable[[str], None]) -> None:
    """Take a node out of rotation: it finishes what it has, and runs on.

    Raises `ClusterError`, also when no other node would be left.
    """
    with hold(layout, on_progress=on_progress) as fleet:
        node = _node(fleet, name)
        if fleet.in_rotation() <= {name}:
            raise ClusterError(f"No other node than {name} takes requests; nothing was changed.")
        fleet.leave(node)
        on_progress(f"{name}: gets no more requests")


def undrain(layout: Layout, name: str, *, on_progress: Callable[[str], None]) -> None:
    """Put a node back into rotation, once it is ready; raise `ClusterError` when it is not."""
    with hold(layout, on_progress=on_progress) as fleet:
        node = _node(fleet, name)
        layout.drain_file(name).unlink(missing_ok=True)
        fleet.await_ready(node)
        fleet.enter(node)
        on_progress(f"{name}: takes requests")


def _node(fleet: Fleet, name: str) -> Member:
    found = fleet.find(name)
    if not isinstance(found, Node):
        raise ClusterError(f"{name} is not a node; a worker is drained by stopping it.")
    return found
