"""How the files of the fault suite are shared out between the processes of `make test-faults`.

The longest come first, so that the processes end together, and those of one stack stay together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer

# Each takes minutes; the others follow as they are found. A folder's tests share a stack.
LONGEST_FIRST = (
    "tests/faults/test_replicas.py",
    "tests/faults/test_jobs.py",
    "tests/fleet/cluster/test_rolling_restarts.py",
    "tests/hostile/test_floods.py",
    "tests/faults/machine/",
    "tests/fleet/cluster/test_rolling_changes.py",
    "tests/faults/test_ill_brokers.py",
    "tests/faults/cache/",
    "tests/faults/test_database.py",
    "tests/fleet/cluster/test_replicas.py",
    "tests/fleet/cluster/test_lifecycle.py",
    "tests/hostile/test_documents.py",
    "tests/config/api/test_schema.py",
    "tests/faults/test_brokers.py",
    "tests/faults/test_frozen_nodes.py",
    "tests/faults/test_primary_gone.py",
    "tests/hostile/test_bodies.py",
    "tests/faults/test_providers.py",
    "tests/node/test_recycling.py",
)


class FaultScheduling(LoadFileScheduling):
    """Gives a process the tests of a file, or of a folder with one stack, in the items' order."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return next((part for part in LONGEST_FIRST if scope.startswith(part)), scope)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests of the fault suite; the order within a file stays."""
    if config.option.markexpr == "faults":
        items.sort(key=lambda item: _rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Any:
    """Return the scheduler of the fault suite, and xdist's own for others."""
    if config.option.markexpr != "faults":
        return None
    # By their numbers of tests.
    config.option.loadscopereorder = False
    return FaultScheduling(config, log)


def _rank(nodeid: str) -> int:
    ranks = (rank for rank, part in enumerate(LONGEST_FIRST) if nodeid.startswith(part))
    return next(ranks, len(LONGEST_FIRST))
