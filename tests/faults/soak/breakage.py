"""The faults of a soak run: chosen by the seed, and each healed before the next."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import psutil

from tests.faults.replica_stack import ServersUnderTest
from tests.faults.soak.provider import STATE
from tests.support.waiting import slack

FROZEN_SECONDS = (1.0, 5.0)
LAG_SECONDS = 2.0
WHOLE_SECONDS = 120.0
# A request that ends this long after a fault was healed may still have met it: it waited in a
# queue, for a retry or for a connection.
AFTERMATH_SECONDS = 2.0
NO_FAULT = "no fault"
# What is frozen two at a time, by its kind.
FREEZABLE = ("node", "worker", "redis", "haproxy", "replica", "primary", "postmaster")
# Never killed, so that their memory can be judged; they are frozen like the others.
SPARED = ("node1", "worker1")


@dataclass
class Breakage:
    """Breaks parts of a stack."""

    servers: ServersUnderTest
    rng: random.Random
    began: float
    counts: Counter[str] = field(default_factory=Counter)
    log: list[tuple[float, str]] = field(default_factory=list)
    # Of each fault: its kind, when it began and when everything was ready again.
    times: list[tuple[str, float, float]] = field(default_factory=list)
    slowest_recovery: tuple[float, str] = (0.0, "")

    def break_something(self) -> None:
        """Break one thing and wait until all is healthy; TimeoutError after WHOLE_SECONDS."""
        choices: list[tuple[str, Callable[[], str]]] = [
            ("kill a node", lambda: self._kill("node")),
            ("kill a worker", lambda: self._kill("worker")),
            ("kill Redis", lambda: self._kill("redis")),
            ("kill a replica", lambda: self._on_replica(self.servers.kill)),
            ("delay a replica", lambda: self._on_replica(self._delay)),
            ("crash a replica", lambda: self._on_replica(self.servers.crash)),
            ("promote a replica", self._promote),
            ("kill the primary", self._kill_primary),
            ("provider fails", lambda: self._provider("fails")),
            ("provider hangs", lambda: self._provider("hangs")),
            *((f"freeze a {kind}", partial(self._freeze, kind)) for kind in FREEZABLE),
            ("freeze two", lambda: self._freeze(*self.rng.sample(FREEZABLE, 2))),
        ]
        kind, work = self.rng.choice(choices)
        self.counts[kind] += 1
        began = time.monotonic()
        what = work()
        healed = time.monotonic()
        self.log.append((healed - self.began, f"{kind}: {what}"))
        self._wait_until_whole()
        seconds = time.monotonic() - healed
        self.times.append((kind, began, time.monotonic()))
        self.slowest_recovery = max(self.slowest_recovery, (seconds, f"{kind}: {what}"))

    def fault_between(self, began: float, ended: float) -> str:
        """Return the kind of the last fault that a request between two moments met."""
        for kind, since, until in reversed(self.times):
            if since < ended and began < until + AFTERMATH_SECONDS:
                return kind
        return NO_FAULT

    # --- Breaking -------------------------------------------------------------------------------
    def _kill(self, kind: str) -> str:
        part = self.rng.choice([p for p in self._parts(kind) if p["name"] not in SPARED])
        process = psutil.Process(part["pid"])
        for each in [*process.children(recursive=True), process]:
            _send(each, signal.SIGKILL)
        return str(part["name"])

    def _freeze(self, *kinds: str) -> str:
        seconds = self.rng.uniform(*FROZEN_SECONDS)
        targets = [self._family(kind) for kind in kinds]
        for _, family in targets:
            for each in family:
                _send(each, signal.SIGSTOP)
        time.sleep(seconds)
        for _, family in targets:
            for each in family:
                _send(each, signal.SIGCONT)
        return f"{' and '.join(name for name, _ in targets)} for {seconds:.1f} s"

    def _family(self, kind: str) -> tuple[str, list[psutil.Process]]:
        """Return a name and its processes."""
        if kind in ("primary", "replica", "postmaster"):
            replica = self.rng.choice(self.servers.replicas)
            name = self.servers.primary if kind == "primary" else replica
            processes = self.servers.processes(name)
            # Without its postmaster, a server answers on open connections and accepts no new ones.
            return f"{kind} {name}", processes[:1] if kind == "postmaster" else processes
        part = self.rng.choice(self._parts(kind))
        process = psutil.Process(part["pid"])
        return str(part["name"]), [process, *process.children(recursive=True)]

    def _on_replica(self, work: Callable[[str], None]) -> str:
        name = self.rng.choice(self.servers.replicas)
        work(name)
        return name

    def _delay(self, name: str) -> None:
        with self.servers.lagging(name, LAG_SECONDS):
            time.sleep(LAG_SECONDS * 2)

    def _promote(self) -> str:
        name = self.rng.choice(self.servers.replicas)
        self.servers.promote(name)
        return name

    def _kill_primary(self) -> str:
        name = self.rng.choice(self.servers.replicas)
        with self.servers.primary_lost():
            self.servers.promote(name)
        return f"{name} is promoted"

    def _provider(self, how: str) -> str:
        seconds = self.rng.uniform(*FROZEN_SECONDS)
        STATE["how"] = how
        try:
            time.sleep(seconds)
        finally:
            STATE["how"] = ""
        return f"for {seconds:.1f} s"

    # --- Looking --------------------------------------------------------------------------------
    def _parts(self, kind: str) -> list[dict[str, Any]]:
        return [part for part in self.servers.stack.status()["parts"] if part["kind"] == kind]

    def _wait_until_whole(self) -> None:
        deadline = time.monotonic() + slack(WHOLE_SECONDS)
        while not self._is_whole():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not whole again in {WHOLE_SECONDS} s: {self.log[-1][1]}")
            time.sleep(0.2)

    def _is_whole(self) -> bool:
        try:
            parts = self.servers.stack.status()["parts"]
            return all(part["state"] == "ready" for part in parts) and all(
                self.servers.is_in_rotation(name) for name in self.servers.replicas
            )
        # A node that does not answer yet.
        except httpx.TransportError:
            return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
