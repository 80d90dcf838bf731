"""A stack, the name before its Redis servers, and requests that are sent while something is ill."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.faults.harness import Faults
from tests.faults.machine.disks import SmallDisk
from tests.faults.replica_stack import ServersUnderTest
from tests.support.forwarder import Forwarder
from tests.support.own_stack import OwnStack
from tests.support.redis_server import OwnRedis

PAUSE_SECONDS = 0.1


@dataclass
class Answers:
    """Answers during a fault: the kind of request, its status and its seconds."""

    given: list[tuple[str, int, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def slowest(self, kind: str = "") -> float:
        """Return the seconds of the slowest answer to a kind of request."""
        return max(seconds for each, _, seconds in self.given if each.startswith(kind))


class MachineFaults(Faults):
    """The stack, and ways to hurt what it stands on."""

    stack: OwnStack

    def __init__(
        self,
        stack: OwnStack,
        *,
        name: Forwarder,
        servers: list[OwnRedis],
        disks: dict[str, SmallDisk],
    ) -> None:
        super().__init__(stack)
        self.name = name
        self.servers = servers
        self.disks = disks
        self.databases = ServersUnderTest(stack)

    @property
    def current(self) -> OwnRedis:
        """The server that the name leads to."""
        return next(server for server in self.servers if server.port == self.name.target)

    def fail_over(self) -> OwnRedis:
        """Promote the other server, demote this one, and then move the name; return the old one."""
        old = self.current
        (new,) = (server for server in self.servers if server is not old)
        new.client().replicaof("127.0.0.1", old.port)
        self.wait_until(
            lambda: new.client().info("replication")["master_link_status"] == "up",
            seconds=20,
            why="the new server does not follow",
        )
        new.client().replicaof("NO", "ONE")
        old.client().replicaof("127.0.0.1", new.port)
        self.name.target = new.port
        return old

    def make_key(self, name: str, *options: str) -> str:
        """Return a new key of an account of its own."""
        made = self.stack.run(
            "apikey", "create", "--name", name, "--account", name, "--json", *options
        )
        assert made.returncode == 0, made.stderr
        return str(json.loads(made.stdout)["key"])

    @contextmanager
    def clients(self) -> Iterator[Answers]:
        """Run clients that read, write, chat and post jobs for the length of the block."""
        answers, over = Answers(), threading.Event()
        key = {"Authorization": f"Bearer {self.stack.demo_key}"}
        chat = {"model": "quick", "messages": [{"role": "user", "content": "hello"}]}

        def post_job(client: httpx.Client) -> httpx.Response:
            text = f"meanwhile {time.monotonic()}"
            response = client.post("/v1/jobs", json={"chain": "quick", "input": text})
            if response.status_code == 202:
                self.texts[response.json()["id"]] = text
            return response

        kinds: dict[str, Callable[[httpx.Client], httpx.Response]] = {
            "read": lambda client: client.get("/v1/conversations"),
            "write": lambda client: client.post("/v1/conversations", json={"chain": "quick"}),
            "chat": lambda client: client.post("/v1/chat/completions", json=chat),
            "job": post_job,
        }

        def run(kind: str) -> None:
            with httpx.Client(base_url=self.stack.url, headers=key, timeout=20) as client:
                while not over.wait(PAUSE_SECONDS):
                    began = time.monotonic()
                    try:
                        response = kinds[kind](client)
                    except httpx.TransportError as error:
                        answers.problems.append(f"{kind}: {error!r}")
                        continue
                    seconds = time.monotonic() - began
                    answers.given.append((kind, response.status_code, seconds))
                    if not response.is_success:
                        answers.problems.append(f"{kind}: {response.status_code} {response.text}")

        threads = [threading.Thread(target=run, args=(kind,)) for kind in kinds]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def check_all(self) -> None:
        """Wait for every job that was accepted, and check that each was done once."""
        self.wait_for_all()
        self.check(list(self.texts))
