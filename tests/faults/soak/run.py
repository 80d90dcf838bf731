"""A stack, its load and its faults, in rounds; each round's history is checked and forgotten."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.history import Answer, History, Missed, missed
from tests.faults.replica_load import Account, Load
from tests.faults.replica_run import read_all
from tests.faults.replica_stack import ServersUnderTest
from tests.faults.soak.breakage import NO_FAULT, Breakage
from tests.faults.soak.load import CUT, MixedLoad
from tests.faults.soak.memory import Sampler
from tests.support.own_stack import OwnStack
from tests.support.waiting import slack

CALIBRATION_SECONDS = 10.0
SHARE = 0.6
ROUND_SECONDS = 60.0
REST_SECONDS = (1.0, 5.0)
# Writers and readers whose history is checked, next to the mixed load; a page shows all they make.
WRITING_ACCOUNTS = 2
JOBS_END_SECONDS = 120.0
COMMAND_SECONDS = 120.0
DOUBLED = """
SELECT 'job ' || j.id::text FROM jobs_job j WHERE
  (SELECT count(*) FROM jobs_attempt a WHERE a.job_id = j.id AND a.outcome = 'succeeded') > 1
  OR (SELECT count(*) FROM jobs_event e WHERE e.job_id = j.id AND e.kind = 'done') > 1
"""
COUNT = """
SELECT count(*) FROM {table} t JOIN access_account a ON a.id = t.account_id WHERE a.name = '{name}'
"""
UNFINISHED = (
    "SELECT count(*) FROM jobs_job WHERE status NOT IN ('succeeded', 'failed', 'cancelled')"
)


@dataclass
class Findings:
    """The results of all rounds."""

    seed: int
    seconds: float = 0.0
    rounds: int = 0
    capacity_per_second: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    acknowledged_writes: int = 0
    reads: int = 0
    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    # What failed while which kind of fault was there, and what failed without any.
    failures: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unexplained: list[str] = field(default_factory=list)


class Soak:
    """One run on one stack."""

    def __init__(self, stack: OwnStack, *, seed: int) -> None:
        self.stack = stack
        self.servers = ServersUnderTest(stack)
        self.findings = Findings(seed)
        self.sampler = Sampler(stack)
        self.breakage = Breakage(self.servers, random.Random(seed), time.monotonic())
        self._address = stack.url.removeprefix("http://")
        self._mixed = self._account("mixed")

    def run(self, *, seconds: float, on_round: Callable[[], None]) -> None:
        """Load and break for so long; raises TimeoutError when the stack does not recover.

        `on_round` is called after each round.
        """
        began = time.monotonic()
        self.findings.capacity_per_second = self._calibrate()
        self.breakage.began = time.monotonic()
        self.sampler.start()
        try:
            while (left := began + seconds - time.monotonic()) > 0:
                self._round(min(left, ROUND_SECONDS))
                self.findings.seconds = time.monotonic() - began
                on_round()
        finally:
            self.sampler.stop()
            self.findings.seconds = time.monotonic() - began
        self.findings.doubled += [row[0] for row in self.servers.rows(DOUBLED)]

    def _calibrate(self) -> float:
        """Return how many requests a second get an answer when all clients send all the time."""
        load = MixedLoad(self._mixed, self._address, seed=self.findings.seed)
        began = time.monotonic()
        load.start()
        time.sleep(CALIBRATION_SECONDS)
        load.stop()
        return load.answered / (time.monotonic() - began)

    def _round(self, seconds: float) -> None:
        findings = self.findings
        seed = findings.seed * 1000 + findings.rounds
        names = [f"round{findings.rounds} {number}" for number in range(WRITING_ACCOUNTS)]
        accounts = [self._account(name) for name in names]
        idle = self._account(f"round{findings.rounds} idle")
        checked = Load(accounts, idle, {"haproxy": self._address}, seed)
        mixed = MixedLoad(
            self._mixed,
            self._address,
            seed=seed,
            per_second=findings.capacity_per_second * SHARE,
        )
        checked.make_something(idle)
        ends_at = time.monotonic() + seconds
        checked.start()
        mixed.start()
        try:
            while time.monotonic() < ends_at:
                time.sleep(self.breakage.rng.uniform(*REST_SECONDS))
                self.breakage.break_something()
        finally:
            mixed.stop()
            checked.stop()
        findings.rounds += 1
        self._await_jobs()
        self._check(checked.history, names)
        for (kind, status), count in mixed.statuses.items():
            findings.statuses[f"{kind} {status}"] += count
        findings.unexpected += mixed.wrong
        findings.slowest_seconds = max(findings.slowest_seconds, *mixed.seconds)
        for what, began, ended in mixed.failures:
            fault = self.breakage.fault_between(began, ended)
            findings.failures[fault][what] += 1
            if fault == NO_FAULT:
                findings.unexplained.append(f"{began - self.breakage.began:.1f} {what}")

    def _check(self, history: History, names: list[str]) -> None:
        findings = self.findings
        final = read_all(self.servers, history.writes)
        findings.acknowledged_writes += len(history.writes)
        findings.reads += len(history.reads)
        findings.lost += _told(missed(history.writes, final))
        findings.stale += _told(missed(history.writes, history.reads))
        findings.unexpected += [
            f"{answer.kind}: {answer.problem}"
            for answer in history.answers
            if answer.problem and answer.status not in CUT
        ]
        for answer in history.answers:
            findings.statuses[f"{answer.kind} {answer.status}"] += 1
        for name in names:
            findings.doubled += self._more_than_sent(name, history.answers)

    def _more_than_sent(self, name: str, answers: list[Answer]) -> list[str]:
        """Return which kinds of things an account has more of than it sent requests for."""
        found = []
        for kind, table in (("POST conversation", "chat_conversation"), ("POST job", "jobs_job")):
            sent = sum(a.kind == kind and a.client.startswith(f"{name} ") for a in answers)
            rows = self.servers.rows(COUNT.format(table=table, name=name))
            if rows[0][0] > sent:
                found.append(f"{name}: {rows[0][0]} of {sent} {kind}")
        return found

    def _await_jobs(self) -> None:
        deadline = time.monotonic() + slack(JOBS_END_SECONDS)
        while (left := self.servers.rows(UNFINISHED)[0][0]) and time.monotonic() < deadline:
            time.sleep(0.5)
        if left:
            self.findings.stuck.append(f"{left} jobs after round {self.findings.rounds}")

    def _account(self, name: str) -> Account:
        # A process of its own, which knows where the primary is now.
        made = self.stack.manage(
            "apikey", "create", "--name", name, "--account", name, "--json", seconds=COMMAND_SECONDS
        )
        if made.returncode != 0:
            raise RuntimeError(made.stderr.strip().splitlines()[-1])
        found: dict[str, Any] = json.loads(made.stdout)
        return Account(name=name, key=found["key"])


def _told(found: list[Missed]) -> list[str]:
    return [str(miss) for miss in found]
