"""Nodes that HAProxy finds by a name, as under Docker Compose."""

from __future__ import annotations

import shutil
import socket
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from fleet.cluster import ports, proxy
from tests.support.fake_node import FakeNode
from tests.support.lone_proxy import BINARIES, LoneProxy, find_binary
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "web.test"


class Dns:
    """A name server that returns these addresses for every query."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.socket.close()

    def _serve(self) -> None:
        while True:
            try:
                query, client = self.socket.recvfrom(512)
            except OSError:
                return
            # The question ends with a zero, its type and its class; what follows is an option.
            end = query.index(b"\0", 12) + 5
            is_ipv4 = query[end - 4 : end - 2] == b"\0\1"
            found = [socket.inet_aton(address) for address in self.addresses if is_ipv4]
            head = query[:2] + b"\x81\x80\0\1" + len(found).to_bytes(2, "big") + bytes(4)
            records = b"".join(b"\xc0\x0c\0\1\0\1" + bytes(4) + b"\0\4" + ip for ip in found)
            self.socket.sendto(head + query[12:end] + records, client)


@pytest.fixture
def dns() -> Iterator[Dns]:
    """A server of names."""
    found = Dns()
    yield found
    found.close()


@pytest.fixture(params=BINARIES)
def by_name(request: pytest.FixtureRequest, dns: Dns, tmp_path: Path) -> Iterator[LoneProxy]:
    """A HAProxy whose nodes are the addresses of a name, at one port on each."""
    (port,) = ports.free_ports(1, avoid=set())
    lone = LoneProxy(
        find_binary(request.param),
        {"PROXY_NODES": f"{NAME}:{port}", "PROXY_SLOTS": "4", "PROXY_STATE_FILE": ""},
    )
    # The machine's own /etc/resolv.conf is the one thing that a test cannot set.
    shutil.copytree(proxy.CONFIG_DIR, tmp_path / "haproxy")
    path = tmp_path / "haproxy" / "haproxy.cfg"
    text = path.read_text(encoding="utf-8")
    assert "    parse-resolv-conf\n" in text
    server = f"    nameserver test 127.0.0.1:{dns.port}\n"
    path.write_text(text.replace("    parse-resolv-conf\n", server), encoding="utf-8")
    lone.program.command[-1] = str(path)
    lone.nodes = [FakeNode(host, host=host, port=port) for host in ("127.0.0.1", "127.0.0.2")]
    lone.start()
    yield lone
    lone.close()


def test_nodes_come_and_go_with_the_addresses_of_a_name(by_name: LoneProxy, dns: Dns) -> None:
    def answering() -> set[str]:
        answers = [httpx.get(f"{by_name.url}/echo") for _ in range(4)]
        return {answer.json().get("node", "none") for answer in answers}

    assert answering() == {"none"}

    for addresses in (["127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.2"]):
        dns.addresses = addresses
        eventually(lambda: answering() == set(dns.addresses), seconds=10, what=f"{addresses}")
