"""A stack of cached chains, and ways to hurt its Redis."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
import redis

from tests.faults.cache.client import Client
from tests.faults.harness import Faults
from tests.support.own_stack import OwnStack

VALUES = "headrace:cache:value:"
# The size of each node's near cache.
NEAR_BYTES = 4 * 1024 * 1024


class CacheFaults(Faults):
    """The stack, its nodes, and ways to hurt its Redis."""

    stack: OwnStack

    def client(self, node: int | None = None) -> Client:
        """Return a client of a node, or of HAProxy."""
        address = self.stack.url.removeprefix("http://") if node is None else self.nodes[node]
        return Client(address, self.stack.demo_key)

    @property
    def nodes(self) -> list[str]:
        """The nodes' addresses."""
        parts = self.stack.status()["parts"]
        return [part["address"] for part in parts if part["kind"] == "node"]

    @property
    def redis_pid(self) -> int:
        (pid,) = self.pids("redis")
        return pid

    @contextmanager
    def redis_killed(self) -> Iterator[None]:
        """Kill Redis, and prevent its restart for the length of the block."""
        with self.frozen(self.stack.record()["supervisord"]["pid"]):
            os.kill(self.redis_pid_recorded, signal.SIGKILL)
            yield
        self.wait_until(self.redis_answers, seconds=10, why="Redis is not started again")

    @contextmanager
    def redis_frozen(self) -> Iterator[None]:
        with self.frozen(self.redis_pid):
            yield

    @contextmanager
    def redis_full(self) -> Iterator[None]:
        """Make Redis refuse every write."""
        client = self.redis()
        before: dict[str, str] = client.config_get("maxmemory*")  # type: ignore[assignment]
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        with pytest.raises(redis.OutOfMemoryError):
            client.set("full", "x")
        yield
        client.config_set("maxmemory", before["maxmemory"])
        client.config_set("maxmemory-policy", before["maxmemory-policy"])

    @contextmanager
    def redis_rubbish(self) -> Iterator[None]:
        """Write rubbish over every answer in Redis, again and again."""
        client, over = self.redis(), threading.Event()
        kinds = [b"", b"rubbish", bytes(range(256)) * 8]

        def spoil() -> None:
            while not over.wait(0.1):
                names = [
                    name for name in client.scan_iter(f"{VALUES}*") if not name.endswith(b":lock")
                ]
                pipeline = client.pipeline(transaction=False)
                for number, name in enumerate(names):
                    kind = number % 4
                    if kind < 3:
                        pipeline.set(name, kinds[kind], xx=True, keepttl=True)
                    else:
                        # A good entry, but for its end.
                        pipeline.setrange(name, 30, random.randbytes(20))
                pipeline.execute()

        thread = threading.Thread(target=spoil)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def redis_answers(self) -> bool:
        try:
            return bool(self.redis().ping())
        except redis.RedisError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over all nodes and the labels that are not named."""
        total = 0.0
        for node in range(2):
            client = self.client(node)
            text = client.send("GET", "/metrics").body.decode()
            client.close()
            for found in re.finditer(rf"(?m)^{name}(?:{{(.*)}})? (\S+)$", text):
                given = dict(re.findall(r'(\w+)="([^"]*)"', found[1] or ""))
                if given.items() >= labels.items():
                    total += float(found[2])
        return total

    def wait_nodes(self) -> None:
        """Wait until HAProxy sends to both nodes again."""
        self.wait_ready()
        client = self.client()
        seen: set[str] = set()

        def both() -> bool:
            for node in range(2):
                probe = self.client(node)
                seen.update([self.nodes[node]] * (probe.send("GET", "/health/ready").status == 200))
                probe.close()
            return len(seen) == 2

        self.wait_until(both, seconds=15, why="a node is not ready")
        client.close()

    @property
    def redis_pid_recorded(self) -> int:
        """Return Redis's process without supervisord, which may be frozen."""
        port = int(self.env("CACHE_URL").rpartition(":")[2].split("/")[0])
        for connection in psutil.net_connections("tcp"):
            if connection.status == "LISTEN" and connection.laddr[1:] == (port,):
                assert connection.pid is not None
                return connection.pid
        raise AssertionError("nobody listens at Redis's port")
