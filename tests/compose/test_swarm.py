"""The same docker-compose.yml on a Swarm of one machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.compose.conftest import Composed
from tests.compose.engine import BASE_DIR, Engine
from tests.support.waiting import eventually, slack

pytestmark = pytest.mark.timeout(1800)

STACK = "headrace-swarm"
# HAProxy's answer to another container: Swarm publishes ports on all addresses, so here on none.
ASK = """
import urllib.request as r
print(r.urlopen('http://haproxy:8000/health/ready', timeout=5).read().decode())
"""
LABELS = ("postgres", "replica", "redis")


class Swarm:
    """The stack on a Swarm."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def replicas(self) -> dict[str, str]:
        """Return by service how many of its tasks run, as `2/2`."""
        listed = self.engine.docker("service", "ls", "--format", "{{.Name}} {{.Replicas}}")
        rows = (line.split()[:2] for line in listed.splitlines())
        return {name.removeprefix(f"{STACK}_"): number for name, number in rows}

    def is_up(self) -> bool:
        """Return whether all services but the one-shot run."""
        numbers = {name: n for name, n in self.replicas().items() if name != "migrate"}
        return len(numbers) == 7 and all(len(set(n.split("/"))) == 1 for n in numbers.values())

    def tasks(self) -> str:
        """Return what became of the tasks."""
        form = "{{.Name}} {{.CurrentState}} {{.Error}}"
        return self.engine.docker("stack", "ps", STACK, "--format", form)

    def is_answering(self) -> bool:
        """Return whether HAProxy answers another container."""
        found = self.engine.docker("ps", "--quiet", "--filter", f"name={STACK}_worker").split()
        if not found:
            return False
        answer = self.engine.docker("exec", found[0], "python", "-c", ASK, check=False)
        return '"status": "ok"' in answer


@pytest.fixture(scope="module")
def swarm(
    engine: Engine, composed: Composed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Swarm]:
    """The stack on a Swarm of one machine, and not with Compose at the same time."""
    if not engine.is_ours:
        pytest.skip("this machine's own engine is not made a Swarm")
    composed.compose("--profile=llm", "down")
    directory = Path(tmp_path_factory.mktemp("swarm"))
    engine.run("python3", "deploy/make_secrets.py", str(directory / "secrets"))
    files = [stack_file(name, directory) for name in ("docker-compose.yml", "deploy/swarm.yml")]
    engine.docker("swarm", "init", "--advertise-addr=127.0.0.1", "--listen-addr=127.0.0.1:2377")
    forget(engine)
    running = Swarm(engine)
    try:
        node = engine.docker("node", "ls", "--quiet").strip()
        labels = [f"--label-add=headrace.{name}=true" for name in LABELS]
        engine.docker("node", "update", *labels, node)
        engine.docker("stack", "deploy", *(f"--compose-file={name}" for name in files), STACK)
        eventually(running.is_up, seconds=300, what=running.tasks)
        yield running
    finally:
        engine.docker("stack", "rm", STACK, check=False)
        engine.docker("swarm", "leave", "--force", check=False)


def forget(engine: Engine) -> None:
    """Remove what an earlier run left in a reused engine: its passwords were others."""
    stack = f"--filter=label=com.docker.stack.namespace={STACK}"
    for kind, remove in (("ps --all", "rm"), ("volume ls", "volume rm")):
        if left := engine.docker(*kind.split(), "--quiet", stack).split():
            engine.docker(*remove.split(), "--force", *left)


def stack_file(name: str, directory: Path) -> str:
    """Copy a file without what tests must not do, and for clients of any age.

    Swarm publishes a port on all of a machine's addresses, and clients before 25 want a version.
    """
    stack_file = {"version": "3.8", **yaml.safe_load((BASE_DIR / name).read_text(encoding="utf-8"))}
    stack_file["services"]["haproxy"].pop("ports", None)
    for kind, base in (("configs", BASE_DIR), ("secrets", directory)):
        for entry in stack_file.get(kind, {}).values():
            entry["file"] = str(base / entry["file"])
    if not stack_file["services"]["haproxy"]:
        del stack_file["services"]["haproxy"]
    path = directory / Path(name).name
    path.write_text(json.dumps(stack_file), encoding="utf-8")
    return str(path)


def test_swarm_runs_the_same_file(swarm: Swarm) -> None:
    eventually(swarm.is_answering, seconds=120, what=swarm.tasks)


def test_a_rolling_update_ends_well_and_answers_go_on(swarm: Swarm) -> None:
    eventually(swarm.is_answering, seconds=120, what=swarm.tasks)
    swarm.engine.docker(
        "service", "update", "--detach", "--force", "--update-delay=3s", f"{STACK}_web"
    )
    form = "{{.UpdateStatus.State}}"
    seen = 0
    deadline = time.monotonic() + slack(300)
    state = "updating"
    while state in ("updating", "<nil>"):
        assert time.monotonic() < deadline, swarm.tasks()
        assert swarm.is_answering(), swarm.tasks()
        seen += 1
        state = swarm.engine.docker("service", "inspect", "--format", form, f"{STACK}_web").strip()
    assert state == "completed", swarm.tasks()
    assert seen > 3
