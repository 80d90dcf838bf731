"""Which nodes and workers leave when there are too many."""

from __future__ import annotations

from fleet.cluster.node import Node, node_id
from fleet.cluster.scale import choose_leaving
from fleet.cluster.worker import Worker, worker_id

NODES = [Node(id=node_id(number, 9000 + number)) for number in (1, 2, 3, 10)]
WORKERS = [Worker(id=worker_id(number, 9100 + number)) for number in (1, 2, 3)]


def leaving(serving: set[str], count: int) -> list[str]:
    """Return the names of the nodes that leave."""
    return [one.id.name for one in choose_leaving(NODES, serving, count)]


def test_the_newest_leave_first() -> None:
    assert leaving({"node1", "node2", "node3", "node10"}, 2) == ["node10", "node3"]
    assert choose_leaving(WORKERS, set(), 2) == [WORKERS[2], WORKERS[1]]


def test_those_that_take_no_requests_leave_before_all_others() -> None:
    assert leaving({"node2", "node3"}, 3) == ["node10", "node1", "node3"]


def test_one_that_serves_remains_if_there_is_one() -> None:
    for name in ("node1", "node2", "node3", "node10"):
        assert name not in leaving({name}, 3)
