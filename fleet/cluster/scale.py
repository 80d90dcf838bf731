"""`cluster scale`: more or fewer nodes and workers while the stack runs."""

import os
from collections.abc import Callable, Sequence, Set

from django.conf import settings

from fleet.cluster.errors import ClusterError, ProcessFailed
from fleet.cluster.node import Node, node_id
from fleet.cluster.node_pool import NodeOrWorker, NodePool, free_numbers, hold
from fleet.cluster.paths import Layout
from fleet.cluster.worker import Worker, worker_id

MAX_WORKERS = 32


def scale(
    layout: Layout,
    *,
    nodes: int | None = None,
    workers: int | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Bring the running stack to so many nodes and workers; None leaves a kind as it is.

    Blocks until done: new ones are ready and take requests, and those that left (`choose_leaving`)
    have finished what they had. Raises `ClusterError`; what is done by then stays, and the call may
    be repeated.
    """
    if nodes is not None and not 1 <= nodes <= settings.MAX_NODES:
        raise ClusterError(f"There may be 1 to {settings.MAX_NODES} nodes (MAX_NODES).")
    if workers is not None and not 0 <= workers <= MAX_WORKERS:
        raise ClusterError(f"There may be 0 to {MAX_WORKERS} workers.")
    with hold(layout, on_progress=on_progress) as pool:
        for kind, wanted in (("node", nodes), ("worker", workers)):
            if wanted is not None:
                _remove_leftovers(pool, kind)
                _resize(pool, kind, wanted)


def _resize(pool: NodePool, kind: str, wanted: int) -> None:
    there = pool.of_kind(kind)
    if len(there) < wanted:
        grow(pool, kind, wanted - len(there))
    elif len(there) > wanted:
        serving = pool.in_rotation() if kind == "node" else set()
        retire(pool, choose_leaving(there, serving, len(there) - wanted))


def choose_leaving(
    processes: Sequence[NodeOrWorker], serving: Set[str], count: int
) -> list[NodeOrWorker]:
    """Return so many of `processes`, which are by age, the oldest first.

    Those go first that take no requests, and then the newest: if any of those that remain could
    be one that serves, one is.
    """
    newest_first = processes[::-1]
    return sorted(newest_first, key=lambda one: one.id.name in serving)[:count]


def grow(pool: NodePool, kind: str, count: int) -> list[NodeOrWorker]:
    """Start so many more; those that are ready serve even if another fails.

    A start takes a processor for seconds. Those that serve get half of them, so that their clients
    notice nothing.
    """
    numbers = free_numbers(pool.of_kind(kind), count)
    ports = pool.new_ports(count)
    new: list[NodeOrWorker] = [
        Node(id=node_id(number, port)) if kind == "node" else Worker(id=worker_id(number, port))
        for number, port in zip(numbers, ports, strict=True)
    ]
    at_once = max(1, (os.cpu_count() or 1) // 2)
    for first in range(0, count, at_once):
        _start(pool, new[first : first + at_once])
    return new


def _start(pool: NodePool, new: Sequence[NodeOrWorker]) -> None:
    for one in new:
        pool.on_progress(f"{one.id.name}: starting at {one.id.address}")
    pool.launch(*new)
    failure: ProcessFailed | None = None
    for one in new:
        try:
            pool.await_ready(one)
        except ProcessFailed as error:
            pool.stop(one)
            pool.remove(one)
            pool.on_progress(f"{one.id.name}: failed, and was removed")
            failure = error
            continue
        if isinstance(one, Node):
            pool.enter(one)
        pool.on_progress(f"{one.id.name}: ready")
    if failure is not None:
        raise failure


def retire(pool: NodePool, leaving: list[NodeOrWorker]) -> None:
    """Drain and stop processes, all at once, and forget them."""
    nodes = [one for one in leaving if isinstance(one, Node)]
    for one in leaving:
        pool.on_progress(f"{one.id.name}: draining; it finishes its running requests or jobs")
    pool.leave(*nodes)
    pool.stop(*leaving)
    pool.close(*nodes)
    pool.remove(*leaving)
    for one in leaving:
        pool.on_progress(f"{one.id.name}: stopped")


def _remove_leftovers(pool: NodePool, kind: str) -> None:
    """Remove what an earlier command left that failed or was cut short."""
    gone = pool.dead(kind)
    if kind == "node":
        out = pool.out_of_use()
        unfinished = [one for one in pool.of_kind(kind) if one.id.name in out and one not in gone]
        if unfinished:
            pool.stop(*unfinished)
        gone += unfinished
        pool.close(*gone)
    pool.remove(*gone)
    for one in gone:
        pool.on_progress(f"{one.id.name}: was unused, and was removed")
