"""nginxes of a test's own, before nodes that are not Headrace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.cluster.binaries import from_path
from tests.support.fake_node import FakeNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

from tests.deploy.own_nginx import Nginx


@pytest.fixture(scope="module")
def binary() -> Path:
    """Debian's nginx; without it tests are skipped, but fail in CI."""
    found = from_path("nginx", minimum=(), option="-v")
    if found is None:
        reason = "there is no nginx on PATH"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def make_nginx(binary: Path, nodes: list[FakeNode]) -> Iterator[Callable[..., Nginx]]:
    """Return a maker of nginxes before the two nodes, given lines to replace."""
    made: list[Nginx] = []

    def make(changes: Mapping[str, str] = {}, certificate: Path | None = None) -> Nginx:
        made.append(Nginx(binary, [node.port for node in nodes], changes, certificate))
        return made[-1]

    yield make
    for nginx in made:
        nginx.close()


@pytest.fixture
def nodes() -> Iterator[list[FakeNode]]:
    """Two nodes."""
    made = [FakeNode("node1"), FakeNode("node2")]
    yield made
    for node in made:
        node.close()


@pytest.fixture
def nginx(make_nginx: Callable[..., Nginx]) -> Nginx:
    """A nginx of which only the addresses differ from the file."""
    return make_nginx()
