"""Stacks whose nodes come and go: one for each file of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fleet.chains import NAMES
from tests.fleet.cluster.rolling import ARGUMENTS, ENV, resize

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.own_stack import OwnStack


@pytest.fixture(scope="module")
def fleet(make_stack: Callable[..., OwnStack]) -> OwnStack:
    """A stack that every test takes as the one before it left it, but for the nodes' number."""
    own = make_stack(*ARGUMENTS, env=ENV)
    own.start()
    for name in NAMES:
        made = own.run("chains", "add", name, "--runnable", name)
        assert made.returncode == 0, made.stderr
    return own


@pytest.fixture
def one_node(fleet: OwnStack) -> OwnStack:
    """The stack with one node."""
    resize(fleet, 1)
    return fleet


@pytest.fixture
def three_nodes(fleet: OwnStack) -> OwnStack:
    """The stack with three nodes."""
    resize(fleet, 3)
    return fleet
