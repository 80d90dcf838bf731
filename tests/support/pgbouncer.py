"""A PgBouncer of a test's own, which pools by transaction."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import pytest

from tests.support.redis_server import free_port
from tests.support.waiting import eventually


class Bouncer(NamedTuple):
    """One that runs, and the URL through it."""

    url: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def bouncer(directory: Path, url: str, *, server_connections: int) -> Iterator[Bouncer]:
    """Start one before the server of a URL."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        if "CI" in os.environ:
            pytest.fail("there is no pgbouncer; .ci/run installs it")
        pytest.skip("there is no pgbouncer; on Debian: apt-get install pgbouncer")
    direct: SplitResult = urlsplit(url)
    port = free_port()
    config = directory / "pgbouncer.ini"
    password = f" password={direct.password}" if direct.password else ""
    config.write_text(f"""
[databases]
* = host={direct.hostname} port={direct.port} user={direct.username}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {server_connections}
ignore_startup_parameters = options
""")
    # It refuses to run as root, and reads its file before it changes its user.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([program, *user, str(config)])
    try:
        eventually(lambda: _is_open(port), seconds=10, what="pgbouncer listens")
        through = direct._replace(netloc=f"headrace:{direct.password}@127.0.0.1:{port}")
        yield Bouncer(through.geturl(), process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
