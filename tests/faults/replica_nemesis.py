"""Faults of the database servers during a run: at random, by a seed that is printed."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.faults.replica_stack import ServersUnderTest

PAUSE_SECONDS = (0.5, 4.0)
LAG_SECONDS = (1.0, 6.0)
REST_SECONDS = (0.2, 1.5)
# All nodes must have obeyed an operator by then.
OBEY_SECONDS = 1.0


class Nemesis:
    """Breaks replicas, as many at once as it has breakers, and at its caller's word the primary.

    A server is broken in one way at a time: who breaks it has its lock.
    """

    def __init__(self, servers: ServersUnderTest, seed: int, *, breakers: int = 2) -> None:
        self._servers = servers
        self.seed = seed
        self._locks = {name: threading.Lock() for name in (servers.primary, *servers.replicas)}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(breakers)
        ]
        self._rng = random.Random(seed)
        self._failures: list[BaseException] = []
        self.log: list[tuple[float, str]] = []
        self.counts: Counter[str] = Counter()
        # Replicas that were read from although they were detached.
        self.disobeyed: list[str] = []

    def start(self) -> None:
        """Begin to break replicas."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, with every replica healthy; raises what went wrong in a thread."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        if self._failures:
            raise self._failures[0]

    def restart_primary(self) -> None:
        """Restart the primary, while one replica at least is well."""
        with self._well(self._rng.choice(self._servers.replicas)):
            self._note(f"{self._servers.primary}, the primary, restarts")
            self.counts["restart primary"] += 1
            self._servers.restart_primary()

    def fail_over(self, *, is_killed: bool = False) -> tuple[float, dict[str, Any]]:
        """Promote a replica; return when the primary was lost, and what came of it.

        The other replica is well too, so that reads can go on, and has what it acknowledged.
        """
        name = self._rng.choice(self._servers.replicas)
        with self._well(*self._servers.replicas):
            old, lost_at = self._servers.primary, time.monotonic()
            self.counts["kill primary" if is_killed else "promote"] += 1
            if is_killed:
                self._note(f"{old}, the primary, is killed, and {name} is promoted")
                with self._servers.primary_lost() as lost_at:
                    outcome = self._servers.promote(name)
            else:
                self._note(f"{name} is promoted, {old} is alive")
                outcome = self._servers.promote(name)
            self._note(f"{name} is the primary: {outcome}")
        return lost_at, outcome

    @contextmanager
    def _well(self, *names: str) -> Iterator[None]:
        """Exclude these replicas and the primary from faults."""
        with ExitStack() as held:
            for name in sorted((self._servers.primary, *names)):
                held.enter_context(self._locks[name])
            for name in names:
                self._servers.await_rotation(name)
            yield

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self.seed} {number}")
        while not self._stop.wait(rng.uniform(*REST_SECONDS)):
            name = rng.choice(self._servers.replicas)
            if not self._locks[name].acquire(blocking=False):
                continue
            try:
                # It may have been promoted in the meantime.
                if name in self._servers.replicas:
                    self._break(name, rng)
            # It must not look as if nothing were broken.
            except BaseException as error:
                self._failures.append(error)
                return
            finally:
                self._locks[name].release()

    def _break(self, name: str, rng: random.Random) -> None:
        servers = self._servers
        seconds, lag = rng.uniform(*PAUSE_SECONDS), rng.uniform(*LAG_SECONDS)
        how = rng.choice(("pause", "lag", "freeze", "kill", "crash", "detach"))
        self.counts[how] += 1
        self._note(f"{name}: {how}")
        match how:
            case "pause":
                with servers.paused(name):
                    time.sleep(seconds)
            case "lag":
                with servers.lagging(name, lag):
                    time.sleep(seconds * 1.5)
            case "freeze":
                with servers.frozen(name):
                    time.sleep(seconds)
            case "kill":
                servers.kill(name)
            case "crash":
                servers.crash(name)
            case "detach":
                with servers.detached(name):
                    self._watch_detached(name, seconds / 2)
        self._note(f"{name}: {how} is over")

    def _watch_detached(self, name: str, seconds: float) -> None:
        def reads() -> float:
            return sum(
                count for (_, server), count in self._servers.reads().items() if server == name
            )

        time.sleep(OBEY_SECONDS)
        before = reads()
        time.sleep(seconds)
        if more := reads() - before:
            self.disobeyed.append(f"{name} had {more:.0f} reads while it was detached")

    def _note(self, text: str) -> None:
        self.log.append((time.monotonic(), text))
