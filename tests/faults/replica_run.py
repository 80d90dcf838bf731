"""A run of the load and the nemesis on a stack, and what it showed."""

from __future__ import annotations

import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.faults.history import History, Missed, Read, Write, longest_gap, missed
from tests.faults.replica_load import Load
from tests.faults.replica_nemesis import Nemesis
from tests.faults.replica_stack import ServersUnderTest
from tests.support.own_stack import OwnStack

ACTIVE_ACCOUNTS = 3


@dataclass
class Outcome:
    """The result of a run."""

    history: History
    nemesis: Nemesis
    began: float
    ended: float = 0.0
    servers_read: Counter[tuple[str, ...]] = field(default_factory=Counter)
    final: list[Read] = field(default_factory=list)

    @property
    def lost(self) -> list[Missed]:
        """Acknowledged writes that the primary does not have."""
        return missed(self.history.writes, self.final)

    @property
    def stale(self) -> list[Missed]:
        """Reads that did not show what was acknowledged before them."""
        return missed(self.history.writes, self.history.reads)

    @property
    def problems(self) -> list[str]:
        """Answers that no client should have had."""
        return [
            f"{answer.began:.3f} {answer.client} {answer.kind}: {answer.problem}"
            for answer in self.history.answers
            if answer.problem
        ]

    @property
    def gaps(self) -> dict[str, tuple[float, float]]:
        """For each reader of the idle account, the longest time without a success, and when."""
        clients = {a.client for a in self.history.answers if a.client.startswith("idle reader")}
        return {
            client: longest_gap(
                [a for a in self.history.answers if a.client == client],
                began=self.began,
                ended=self.ended,
            )
            for client in sorted(clients)
        }

    @property
    def share(self) -> float:
        """Which share of the reads went to replicas."""
        away = sum(n for (reason, _), n in self.servers_read.items() if reason == "replica")
        return away / max(1, sum(self.servers_read.values()))

    def summary(self) -> str:
        """Return the figures, and what happened when."""
        by_kind: dict[str, Counter[int]] = defaultdict(Counter)
        for answer in self.history.answers:
            by_kind[answer.kind][answer.status] += 1
        slow = sorted(self.history.answers, key=lambda answer: answer.began - answer.ended)[:3]
        lines = [
            f"seed {self.nemesis.seed}",
            f"stale {len(self.stale)}, lost {len(self.lost)}, unexpected {len(self.problems)}",
            *(f"{kind}: {dict(statuses)}" for kind, statuses in sorted(by_kind.items())),
            f"acknowledged writes {len(self.history.writes)}, reads {len(self.history.reads)}",
            f"broken {dict(self.nemesis.counts)}",
            f"queries { ({' '.join(k): int(n) for k, n in sorted(self.servers_read.items())}) }",
            f"to replicas {self.share:.0%}",
            *(
                f"{client}: at most {seconds:.2f} s without an answer, at {at - self.began:.2f}"
                for client, (seconds, at) in self.gaps.items()
            ),
            f"slowest {[f'{a.kind} {a.status} {a.ended - a.began:.2f} s' for a in slow]}",
            *(f"{at - self.began:.2f} {text}" for at, text in self.nemesis.log),
        ]
        return "\n    ".join(["", *lines, ""])


class Bench:
    """A stack, its accounts, and a run on it."""

    def __init__(self, stack: OwnStack) -> None:
        self.servers = ServersUnderTest(stack)
        self.names = [f"account{number}" for number in range(ACTIVE_ACCOUNTS)]
        self.active = [self.servers.make_account(name) for name in self.names]
        self.idle = self.servers.make_account("idle")

    @contextmanager
    def run(self, *, breakers: int = 2) -> Iterator[Outcome]:
        """Run accounts that read and write, and break replicas, for the length of the block."""
        seed = int(os.environ.get("FAULTS_SEED") or random.randrange(10**6))
        load = Load(self.active, self.idle, self.servers.ways, seed)
        for account in self.active:
            account.conversations.clear()
            account.jobs.clear()
        load.make_something(self.idle)
        for name in self.servers.replicas:
            self.servers.await_rotation(name)
        nemesis = Nemesis(self.servers, seed, breakers=breakers)
        before = self.servers.reads()
        outcome = Outcome(load.history, nemesis, began=time.monotonic())
        load.start()
        nemesis.start()
        try:
            yield outcome
        finally:
            outcome.ended = time.monotonic()
            nemesis.stop()
            load.stop()
        outcome.servers_read = self.servers.reads() - before
        outcome.final = read_all(self.servers, load.history.writes)


def read_all(servers: ServersUnderTest, writes: list[Write]) -> list[Read]:
    """Read every subject that was written from the primary itself."""
    at = time.monotonic()
    numbers: dict[str, int] = {}
    sets: dict[str, set[str]] = defaultdict(set)
    accounts = dict(servers.rows("SELECT id, name FROM access_account"))
    for key, account, metadata in servers.rows(
        "SELECT id, account_id, metadata FROM chat_conversation"
    ):
        sets[f"conversations of {accounts[account]}"].add(f"conv_{key.hex}")
        numbers[f"metadata conv_{key.hex}"] = int(metadata.get("n", 0))
    for key, conversation in servers.rows("SELECT id, conversation_id FROM chat_message"):
        sets[f"messages conv_{conversation.hex}"].add(f"msg_{key.hex}")
    for key, account in servers.rows("SELECT id, account_id FROM jobs_job"):
        sets[f"jobs of {accounts[account]}"].add(f"job_{key.hex}")
        sets[f"job job_{key.hex}"].add(f"job_{key.hex}")
    return [
        Read(
            subject=subject,
            shown=numbers.get(subject, -1)
            if subject.startswith("metadata ")
            else frozenset(sets[subject]),
            began=at,
            ended=at,
            client="the test",
        )
        for subject in {write.subject for write in writes}
    ]
