"""All services of docker-compose.yml, running on an engine of the tests' own."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.compose import engine as engines
from tests.compose import standins
from tests.compose.engine import Engine
from tests.stack_plugin import free_public_port

PROJECT = "headrace-test"
FILES = ("docker-compose.yml", "docker-compose.override.yml", "tests/compose/overlay.yml")
BUILD_SECONDS = 1200
UP_SECONDS = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here, so that `make test` leaves it out."""
    for item in items:
        if "tests/compose/" in str(item.path):
            item.add_marker(pytest.mark.compose)


class Composed:
    """The composed stack."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.port = free_public_port()
        self.key = ""

    def compose(self, *arguments: str, check: bool = True, timeout: float = UP_SECONDS) -> str:
        """Run `docker compose`."""
        files = [f"--file={name}" for name in FILES]
        return self.engine.run(
            "docker-compose",
            f"--project-name={PROJECT}",
            *files,
            *arguments,
            env={"PORT": str(self.port)},
            check=check,
            timeout=timeout,
        )

    def up(self, *arguments: str) -> None:
        """Start what does not run, and wait until all is well."""
        self.compose("up", "--detach", "--wait", *arguments)

    def manage(self, *arguments: str) -> str:
        """Run a command in a node's container."""
        return self.compose("exec", "-T", "web", "manage.py", *arguments)

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's running containers."""
        return self.compose("ps", "--quiet", "--status=running", service).split()

    def sql(self, service: str, statement: str) -> str:
        """Query one database server."""
        command = ("psql", "-h", "127.0.0.1", "-U", "headrace", "-tA", "headrace", "-c", statement)
        script = f'PGPASSWORD="$(cat /run/secrets/headrace_password)" exec {json_words(command)}'
        return self.compose("exec", "-T", service, "bash", "-c", script).strip()

    def client(self, **more: Any) -> httpx.Client:
        """Return a client with the key."""
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=60,
            **more,
        )


def json_words(words: tuple[str, ...]) -> str:
    """Return words as a shell reads them; JSON's quotes do for these commands."""
    return " ".join(json.dumps(word) for word in words)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """This machine's engine, or else one with stand-ins for the official images.

    That is made in HEADRACE_COMPOSE_DIR, and left there for the next run, if it is set. In CI it is
    always one of its own: whether a machine's engine can pull images is not known.
    """
    if "CI" not in os.environ and (found := engines.found()) is not None:
        yield found
        return
    if reason := engines.why_not():
        pytest.skip(reason)
    kept = os.environ.get("HEADRACE_COMPOSE_DIR")
    with tempfile.TemporaryDirectory(prefix="headrace-engine-") as made:
        directory = Path(kept or made)
        directory.mkdir(exist_ok=True)
        try:
            with engines.running(directory) as running:
                standins.build(running)
                yield running
        except engines.EngineMissing as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def composed(engine: Engine) -> Iterator[Composed]:
    """The stack from a clean clone: built, started, with two chains and a key."""
    stack = Composed(engine)
    stack.compose("build", timeout=BUILD_SECONDS)
    try:
        stack.up()
        for name in ("echo", "slow"):
            stack.manage("chains", "add", name, f"--runnable={name}")
        stack.key = json.loads(stack.manage("apikey", "create", "--name=demo", "--json"))["key"]
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout=10", check=False)
