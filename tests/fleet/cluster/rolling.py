"""A stack whose nodes come and go under load, and what tests do to it and see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fleet.chains import NAMES

if TYPE_CHECKING:
    from tests.support.own_stack import OwnStack

DRAIN_SECONDS = 5.0
SETTLE_SECONDS = 2.0
COMMAND_SECONDS = 300
ARGUMENTS = ("--no-llm", "--nodes=1", "--replicas=0", "--workers=0")
ENV = {
    "CHAIN_RUNNABLES": ",".join(f"{name}=tests.fleet.chains.{name}" for name in NAMES),
    "CHAIN_CACHE_SECONDS": "0.2",
    "DRAIN_SECONDS": str(DRAIN_SECONDS),
    "DRAIN_SETTLE_SECONDS": str(SETTLE_SECONDS),
    "EMBEDDED_WSGI": "tests.fleet.slow_wsgi",
    "STREAM_HEARTBEAT_SECONDS": "1",
}


def run(own: OwnStack, *arguments: str) -> str:
    """Run a verb of `cluster`; it must succeed."""
    done = own.run("cluster", *arguments)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{own.output()[-3000:]}"
    return done.stdout


def names(own: OwnStack) -> list[str]:
    """Return the names of the nodes."""
    return [part["name"] for part in own.status()["parts"] if part["kind"] == "node"]


def states(own: OwnStack) -> dict[str, str]:
    """Return the nodes' states."""
    return {p["name"]: p["state"] for p in own.status()["parts"] if p["kind"] == "node"}


def pids(own: OwnStack) -> dict[str, int]:
    """Return the nodes' processes."""
    return {p["name"]: p["pid"] for p in own.status()["parts"] if p["kind"] == "node"}


def resize(own: OwnStack, count: int) -> None:
    """Bring the stack to this many nodes, node1 and so on, whatever a test left."""
    (own.state_dir / "broken").unlink(missing_ok=True)
    wanted = [f"node{number}" for number in range(1, count + 1)]
    if states(own) == dict.fromkeys(wanted, "ready"):
        return
    for name, state in states(own).items():
        if state == "draining":
            run(own, "undrain", name)
    # New nodes get the lowest free numbers, and the highest leave first.
    highest = max(int(name.removeprefix("node")) for name in names(own))
    if len(names(own)) < highest:
        run(own, "scale", "--nodes", str(highest))
    run(own, "scale", "--nodes", str(count))
    assert states(own) == dict.fromkeys(wanted, "ready")
