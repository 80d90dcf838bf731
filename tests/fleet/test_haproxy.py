"""Commands that change the nodes, while HAProxy is being restarted."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from fleet.cluster.node import Node, node_id
from fleet.cluster.node_pool import NodePool
from fleet.cluster.paths import Layout
from fleet.haproxy import HAProxyRefused, HAProxyUnavailable, RuntimeApi, Server, ServerState

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.cluster.supervisord import Supervisord

NODE = Node(id=node_id(1, 9001))


class Proxy:
    """A Runtime API with one slot, whose HAProxy is down for the first `away` calls."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.slot = Server(
            name="node1", host="127.0.0.1", port=9, state=ServerState.MAINT, is_up=True
        )

    def servers(self) -> list[Server]:
        """Return the slot."""
        self._be_away()
        return [self.slot]

    def add(self, name: str, *, host: str, port: int) -> None:
        """Fill the slot."""
        self._be_away()
        self.slot = Server(name=name, host=host, port=port, state=ServerState.READY, is_up=True)

    def set_state(self, name: str, state: ServerState) -> None:
        """Change the slot's state."""
        self._be_away()
        self.slot = Server(
            name=name, host=self.slot.host, port=self.slot.port, state=state, is_up=True
        )

    def _be_away(self) -> None:
        self.away -= 1
        if self.away >= 0:
            raise HAProxyUnavailable("no")


def pool_behind(proxy: object, state_dir: Path) -> NodePool:
    """Return a pool whose HAProxy is that, and that starts and stops nothing."""
    layout = Layout(state_dir=state_dir)
    layout.create()
    return NodePool(
        layout=layout,
        supervisord=cast("Supervisord", None),
        api=cast("RuntimeApi", proxy),
        on_progress=lambda text: None,
    )


def test_a_haproxy_that_is_started_again_is_waited_for(tmp_path: Path) -> None:
    proxy = Proxy(away=3)
    pool = pool_behind(proxy, tmp_path)

    pool.enter(NODE)
    assert (proxy.slot.port, proxy.slot.state) == (9001, ServerState.READY)

    proxy.away = 3
    assert pool.in_rotation() == {"node1"}

    proxy.away = 3
    pool.leave(NODE)
    assert proxy.slot.state == ServerState.DRAIN
    assert pool.layout.drain_file("node1").exists()

    proxy.away = 3
    pool.close(NODE)
    assert pool.out_of_use() == {"node1"}


def test_a_haproxy_that_stays_down_or_refuses_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.cluster.node_pool.RETURN_SECONDS", 0.2)
    with pytest.raises(HAProxyUnavailable):
        pool_behind(Proxy(away=1_000), tmp_path).leave(NODE)

    class Refusing(Proxy):
        def set_state(self, name: str, state: ServerState) -> None:
            raise HAProxyRefused("set server", "no")

    with pytest.raises(HAProxyRefused):
        pool_behind(Refusing(away=0), tmp_path).leave(NODE)
