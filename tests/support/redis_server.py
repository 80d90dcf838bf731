"""A Redis of a test's own, to kill, freeze and revive."""

from __future__ import annotations

import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import redis
from django.conf import settings as django_settings
from redis.backoff import NoBackoff
from redis.retry import Retry

import scaling.redis_client
from fleet.cluster.redis import find_server
from tests.support.background import stop_background_threads
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A caller that waits for a server repeats its calls; a client that retries hides how one failed.
NO_RETRY = Retry(NoBackoff(), 0)


class OwnRedis:
    """A redis-server on a free port of this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [find_server(), "--port", self.port, "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(
            [str(word) for word in command], cwd=self.directory, stdout=subprocess.DEVNULL
        )
        eventually(
            lambda: self.client().ping(),
            seconds=10,
            what="redis-server answers",
            every_seconds=0.02,
            errors=(redis.RedisError,),
        )

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=1, retry=NO_RETRY)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)


@pytest.fixture
def own_redis(tmp_path: Path, settings: Any) -> Iterator[OwnRedis]:
    # One of these would meet a failure of the server in the test's place.
    stop_background_threads()
    server = OwnRedis(tmp_path)
    server.start()
    use_cache_url(settings, server.url)
    yield server
    server.kill()
    scaling.redis_client.reset()


def use_cache_url(settings: Any, url: str) -> None:
    """Point the default cache at another server."""
    default = {**django_settings.CACHES["default"], "LOCATION": url}
    settings.CACHES = {**django_settings.CACHES, "default": default}
    scaling.redis_client.reset()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
