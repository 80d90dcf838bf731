"""Servers of a test's own: Memcached, Redis Sentinel and a Redis Cluster of one node."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import redis
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

from fleet.cluster.redis import find_server
from tests.support.redis_server import NO_RETRY, OwnRedis, free_port
from tests.support.waiting import eventually


class OwnMemcached:
    """A memcached on a free port of this machine."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"memcached://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [find_memcached(), "-l", "127.0.0.1", "-p", str(self.port), "-U", "0"]
        self.process = subprocess.Popen([*command, "-u", "nobody", *self.options])
        wait_until(lambda: self.client().version(), (MemcacheError, OSError))

    def client(self) -> Client:
        return Client(("127.0.0.1", self.port), timeout=1, connect_timeout=1)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def flush(self) -> None:
        """Forget everything, as if all had been evicted."""
        self.client().flush_all(noreply=False)

    def freeze(self) -> None:
        """Stop all threads; one that runs on another processor goes on for a moment."""
        self._signal(signal.SIGSTOP)
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task")
        wait_until(lambda: all(is_stopped(task) for task in tasks.iterdir()), ())

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)


class OwnSentinel:
    """One Sentinel that watches a Redis under a name."""

    def __init__(self, directory: Path, *, master: str, of: OwnRedis) -> None:
        self.port = free_port()
        self.config = directory / "sentinel.conf"
        self.config.write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor {master} 127.0.0.1 {of.port} 1\n"
            f"sentinel down-after-milliseconds {master} 300\n"
            f"sentinel failover-timeout {master} 2000\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(find_server()), str(self.config), "--sentinel"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(lambda: self.client().ping(), (redis.RedisError,))

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=1, retry=NO_RETRY)

    def freeze(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class PlainRedis(OwnRedis):
    """A Redis that can be emptied."""

    def flush(self) -> None:
        """Forget everything."""
        self.client().flushall()


class OwnCluster(PlainRedis):
    """A Redis Cluster whose only node has all slots."""

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.port}"

    def start(self) -> None:
        bus = free_port()
        command = [find_server(), "--port", self.port, "--bind", "127.0.0.1", "--save", ""]
        command += ["--cluster-enabled", "yes", "--cluster-port", bus]
        self.process = subprocess.Popen(
            [str(word) for word in command], cwd=self.directory, stdout=subprocess.DEVNULL
        )
        wait_until(lambda: self.client().ping(), (redis.RedisError,))
        if b"cluster_slots_assigned:16384" not in self.info():
            self.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in self.info(), (redis.RedisError,))

    def info(self) -> bytes:
        # redis-py would make a dictionary of it.
        client = self.client()
        client.response_callbacks.clear()
        answer = client.execute_command("CLUSTER INFO")
        return answer if isinstance(answer, bytes) else str(answer).encode()


def is_stopped(task: Path) -> bool:
    """Return whether a thread has been stopped (proc(5))."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def find_memcached() -> str:
    """Return memcached's path; a machine without it skips the test, and CI fails."""
    found = shutil.which("memcached")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("there is no memcached; .ci/run installs it")
        pytest.skip("there is no memcached on this machine")
    return found


def wait_until(check, errors) -> None:
    """Wait until a check holds and raises none of these errors."""
    eventually(check, seconds=10, what="the server is ready", every_seconds=0.02, errors=errors)
