"""A stack with three database servers, and ways to hurt each of them."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import psutil
import psycopg
import redis

from scaling.replicas.detachment import DETACHED_KEY
from tests.faults.replica_load import Account
from tests.support.own_stack import OwnStack
from tests.support.waiting import eventually

BACK_SECONDS = 20.0
# For so long a primary that will be killed sends nothing.
UNSENT_SECONDS = 0.5


class ServersUnderTest:
    """The servers by their names, in any role."""

    def __init__(self, stack: OwnStack) -> None:
        self.stack = stack
        self.nodes = {
            part["name"]: part["address"]
            for part in stack.status()["parts"]
            if part["kind"] == "node"
        }

    # --- Looking --------------------------------------------------------------------------------
    @property
    def ways(self) -> dict[str, str]:
        """The addresses by which clients may come in."""
        return {"haproxy": self.stack.url.removeprefix("http://"), **self.nodes}

    @property
    def roles(self) -> dict[str, Any]:
        """The primary's name and the replicas' names."""
        roles: dict[str, Any] = json.loads((self.stack.state_dir / "topology.json").read_text())
        return roles

    @property
    def primary(self) -> str:
        """The name of the server that is the primary."""
        return str(self.roles["primary"])

    @property
    def replicas(self) -> list[str]:
        """The names of the others."""
        return [str(name) for name in self.roles["replicas"]]

    def metric(self, name: str, node: str) -> Counter[tuple[str, ...]]:
        """Return a metric of one node by the values of its labels, in their order."""
        text = httpx.get(f"http://{self.nodes[node]}/metrics", timeout=10).text
        found: Counter[tuple[str, ...]] = Counter()
        for line in re.finditer(rf"(?m)^{name}(?:{{(.*)}})? (\S+)$", text):
            found[tuple(re.findall(r'\w+="([^"]*)"', line[1] or ""))] = float(line[2])  # type: ignore[assignment]
        return found

    def reads(self) -> Counter[tuple[str, ...]]:
        """Return how many queries went where: (reason, server)."""
        total: Counter[tuple[str, ...]] = Counter()
        for node in self.nodes:
            total += self.metric("headrace_database_reads_total", node)
        return total

    def is_in_rotation(self, name: str) -> bool:
        """Return whether all nodes read from a replica."""
        return all(
            self.metric("headrace_database_in_rotation", node)[name,] == 1 for node in self.nodes
        )

    def await_rotation(self, name: str) -> None:
        """Wait until all nodes read from a replica."""
        eventually(
            lambda: self.is_in_rotation(name), seconds=BACK_SECONDS, what=f"{name} in rotation"
        )

    def is_answering(self, name: str) -> bool:
        """Return whether a server answers."""
        try:
            self.run(name, "SELECT 1")
        except psycopg.Error:
            return False
        return True

    def run(self, name: str, *statements: str) -> None:
        """Run statements on a replica."""
        with psycopg.connect(
            self.stack.replica_urls[name], autocommit=True, connect_timeout=2
        ) as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what the primary itself has."""
        with psycopg.connect(self.stack.database_url) as connection:
            return connection.execute(query).fetchall()

    def processes(self, name: str) -> list[psutil.Process]:
        """Return a server's processes, the postmaster first."""
        place = str((self.stack.state_dir / name).resolve())
        return sorted(
            (
                process
                for process in psutil.process_iter(["name", "cwd"])
                if process.info["name"] == "postgres" and process.info["cwd"] == place
            ),
            key=lambda process: process.pid,
        )

    # --- Making ---------------------------------------------------------------------------------
    def make_account(self, name: str) -> Account:
        """Make an account with a key of its own."""
        made = self.stack.manage("apikey", "create", "--name", name, "--account", name, "--json")
        assert made.returncode == 0, made.stderr
        return Account(name=name, key=json.loads(made.stdout)["key"])

    # --- Breaking -------------------------------------------------------------------------------
    def signal_all(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a server."""
        for process in self.processes(name):
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Pause a replica's replay, while it receives the log."""
        self.run(name, "SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            self.run(name, "SELECT pg_wal_replay_resume()")

    @contextmanager
    def lagging(self, name: str, seconds: float) -> Iterator[None]:
        """Delay a replica's replay of each commit by so much."""
        self.run(
            name,
            f"ALTER SYSTEM SET recovery_min_apply_delay = '{int(seconds * 1000)}ms'",
            "SELECT pg_reload_conf()",
        )
        try:
            yield
        finally:
            self.run(
                name,
                "ALTER SYSTEM RESET recovery_min_apply_delay",
                "SELECT pg_reload_conf()",
            )

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stop all processes of a server."""
        self.signal_all(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal_all(name, signal.SIGCONT)

    @contextmanager
    def detached(self, name: str) -> Iterator[None]:
        """Detach a replica from reads, as the operator's command does, though at once."""
        with redis.Redis.from_url(self._env("CACHE_URL")) as client:
            client.sadd(DETACHED_KEY, name)
            try:
                yield
            finally:
                client.srem(DETACHED_KEY, name)

    def kill(self, name: str) -> None:
        """Kill a server, and wait until supervisord has started it again."""
        self.signal_all(name, signal.SIGKILL)
        self._await_answer(name)

    def crash(self, name: str) -> None:
        """Kill one backend, so that the server drops all others and recovers by itself."""
        # One that has just started may have none yet, and then it has nothing to lose.
        for process in reversed(self.processes(name)):
            # Any may end at any time by itself.
            with suppress(psutil.NoSuchProcess):
                if "headrace" in "".join(process.cmdline()):
                    process.kill()
                    break
        self._await_answer(name)

    def stop_redis(self, seconds: float) -> None:
        """Stop Redis for so long."""
        [process] = [part for part in self.stack.processes() if part.name() == "redis-server"]
        process.suspend()
        time.sleep(seconds)
        process.resume()

    def restart_primary(self) -> None:
        """Stop the primary as in an upgrade; supervisord starts it again."""
        self.processes(self.primary)[0].send_signal(signal.SIGINT)

    def promote(self, name: str) -> dict[str, Any]:
        """Make a replica the primary."""
        done = self.stack.manage("replicas", "promote", name, "--json")
        assert done.returncode == 0, done.stderr
        outcome: dict[str, Any] = json.loads(done.stdout)
        return outcome

    @contextmanager
    def primary_lost(self) -> Iterator[float]:
        """Kill the primary with the last of its log unsent, and yield when.

        What supervisord starts in its place is frozen: killed again and again, the stack would give
        up.
        """
        name, over = self.primary, threading.Event()
        for process in self.processes(name):
            # A backend may end at any time by itself.
            with suppress(psutil.NoSuchProcess):
                if "walsender" in " ".join(process.cmdline()):
                    process.suspend()
        time.sleep(UNSENT_SECONDS)
        lost_at = time.monotonic()
        self.signal_all(name, signal.SIGKILL)

        def freeze() -> None:
            while not over.wait(0.03) and self.primary == name:
                self.signal_all(name, signal.SIGSTOP)

        thread = threading.Thread(target=freeze)
        thread.start()
        try:
            yield lost_at
        finally:
            over.set()
            thread.join()
            self.signal_all(name, signal.SIGCONT)

    def _env(self, name: str) -> str:
        lines = (self.stack.state_dir / "stack.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)[name]

    def _await_answer(self, name: str) -> None:
        time.sleep(0.2)
        eventually(lambda: self.is_answering(name), seconds=BACK_SECONDS, what=f"{name} is back")
