"""`cluster restart`: nodes and workers one after another, with the code that is on disk now."""

from collections.abc import Callable, Mapping

from django.conf import settings

from fleet.cluster import overrides
from fleet.cluster.errors import ClusterError
from fleet.cluster.node import Node
from fleet.cluster.node_pool import NodeOrWorker, NodePool, hold
from fleet.cluster.paths import Layout
from fleet.cluster.scale import grow, retire
from fleet.cluster.static_files import collect_if_changed
from fleet.cluster.upgrade import migrate


def restart(
    layout: Layout,
    *,
    name: str | None = None,
    is_forced: bool = False,
    changes: Mapping[str, str] | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Restart a node or worker, or without a name all of them, one at a time.

    A new node is started first, and stands in for each that is restarted. It shows whether the new
    code starts at all: if it does not, nothing is changed. Raises `ClusterError` with the first
    that fails; it is out of rotation then, the stand-in stays, and the rest runs on as it was.
    Migrations come before all that; `is_forced` applies also those that the old code cannot bear.
    `changes` are settings for every process that starts from now on, unless the first does not
    start with them: they are rolled back then, and it runs as before.
    """
    with hold(layout, on_progress=on_progress) as pool:
        processes = [*pool.of_kind("node"), *pool.of_kind("worker")]
        chosen = [pool.find(name)] if name else processes
        nodes = [one for one in chosen if isinstance(one, Node)]
        stand_in: list[NodeOrWorker] = []
        if nodes:
            migrate(on_progress=on_progress, is_forced=is_forced)
            if collect_if_changed():
                on_progress("collected the static files")
        overrides.attempt(layout, changes or {})
        if nodes:
            try:
                stand_in = _start_stand_in(pool)
            # Ctrl-C, too, while it waits for a node that does not get ready.
            except BaseException:
                overrides.roll_back(layout)
                raise
        if stand_in:
            overrides.commit(layout)
        for done, one in enumerate(chosen):
            was_drained = layout.drain_file(one.id.name).exists()
            try:
                _stop(pool, one)
                _start(pool, one, was_drained=was_drained)
            except ClusterError as error:
                if changes and not stand_in and not done:
                    overrides.roll_back(layout)
                    if _runs_as_before(pool, one, was_drained=was_drained):
                        raise ClusterError(
                            f"{error}. {one.id.name} runs again with its previous settings."
                        ) from error
                raise _failed(pool, error, one, chosen[done + 1 :], stand_in) from error
            overrides.commit(layout)
        if stand_in:
            retire(pool, stand_in)


def _start_stand_in(pool: NodePool) -> list[NodeOrWorker]:
    if len(pool.of_kind("node")) >= settings.MAX_NODES:
        pool.on_progress("there are MAX_NODES nodes: no stand-in is started")
        return []
    pool.on_progress("one more node stands in for each that is restarted")
    try:
        return grow(pool, "node", 1)
    except ClusterError as error:
        raise ClusterError(f"{error}. The others run unchanged.") from error


def _stop(pool: NodePool, one: NodeOrWorker) -> None:
    pool.on_progress(f"{one.id.name}: draining; it finishes its running requests or jobs")
    if isinstance(one, Node):
        pool.leave(one)
    pool.stop(one)


def _start(pool: NodePool, one: NodeOrWorker, *, was_drained: bool) -> None:
    name, is_node = one.id.name, isinstance(one, Node)
    pool.on_progress(f"{name}: starting")
    pool.launch(one)
    pool.await_ready(one)
    if is_node and was_drained:
        pool.leave(one)
    elif is_node:
        pool.enter(one)
    pool.on_progress(f"{name}: {'ready, and drained as before' if was_drained else 'ready'}")


def _runs_as_before(pool: NodePool, one: NodeOrWorker, *, was_drained: bool) -> bool:
    """Start what did not start with changed settings without them; say whether it does."""
    pool.on_progress(f"{one.id.name}: failed; retrying with the previous settings")
    try:
        _start(pool, one, was_drained=was_drained)
    except ClusterError:
        return False
    return True


def _failed(
    pool: NodePool,
    error: ClusterError,
    one: NodeOrWorker,
    rest: list[NodeOrWorker],
    stand_in: list[NodeOrWorker],
) -> ClusterError:
    """Return the error that says what is as it was and what is not."""
    name = one.id.name
    parts = [f"{error}. {name} is out of use"]
    if isinstance(one, Node):
        pool.close(one)
        parts += [f"{other.id.name} runs instead of it" for other in stand_in]
    elif stand_in:
        retire(pool, stand_in)
    if rest:
        parts.append(f"{', '.join(other.id.name for other in rest)} run unchanged")
    return ClusterError("; ".join(parts) + ".")
