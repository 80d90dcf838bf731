"""Fixtures of stacks, and HAProxies, of their own for the tests that break parts."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.lone_proxy import BINARIES, LoneProxy, find_binary
from tests.support.own_stack import QUICK, OwnStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def make_stack() -> Iterator[Callable[..., OwnStack]]:
    """Return a maker of stacks in their own state directories; all are stopped at the end."""
    made: list[OwnStack] = []
    roots: list[Path] = []

    def make(*arguments: str, env: dict[str, str] | None = None, name: str = "stack") -> OwnStack:
        root = Path(tempfile.mkdtemp(prefix="headrace-own-"))
        roots.append(root)
        own = OwnStack(root / name, arguments=arguments or QUICK, env=env or {})
        made.append(own)
        return own

    yield make
    for own in made:
        if own.process is not None and own.process.poll() is None:
            own.stop()
    for root in roots:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(params=BINARIES)
def make_proxy(request: pytest.FixtureRequest) -> Iterator[Callable[..., LoneProxy]]:
    """Return a maker of running HAProxies, given what an operator sets; all end with the test."""
    binary = find_binary(request.param)
    made: list[LoneProxy] = []

    def make(**env: str) -> LoneProxy:
        made.append(LoneProxy(binary, env))
        made[-1].start()
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def lone(make_proxy: Callable[..., LoneProxy]) -> LoneProxy:
    """A running HAProxy for which nothing is set."""
    return make_proxy()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and its key, in one file as HAProxy wants it."""
    directory = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    files = "-keyout key.pem -out cert.pem"
    subprocess.run(
        f"{command} {names} {files}".split(), cwd=directory, check=True, capture_output=True
    )
    path = directory / "site.pem"
    path.write_bytes((directory / "cert.pem").read_bytes() + (directory / "key.pem").read_bytes())
    return path
