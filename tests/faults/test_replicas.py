"""Read-your-writes holds under every fault of the database servers.

`FAULTS_SEED` repeats the choices of a run, though not their timing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.chains import NAMES
from tests.faults.history import Missed, Write, without
from tests.faults.replica_run import Bench, Outcome
from tests.support.own_stack import OwnStack
from tests.support.waiting import slack

POSITION_SECONDS = 30.0
# Before this the primary is not touched.
QUIET_SECONDS = 8.0
ENV = {
    "CHAIN_RUNNABLES": ",".join(f"{name}=tests.faults.chains.{name}" for name in NAMES),
    "POSITION_SECONDS": str(POSITION_SECONDS),
    "REPLICA_MAX_LAG_SECONDS": "4",
}
ARGUMENTS = ("--nodes=2", "--workers=1", "--replicas=2", "--no-llm")
# What was acknowledged so shortly before the primary was killed may not have left it yet.
LOSS_SECONDS = 1.0
# An answer that was on its way when the primary was killed is read a moment later.
ANSWER_SECONDS = 1.0
# Without an answer for so long, reads are not served throughout.
GAP_SECONDS = 2.0
LEAST_SHARE = 0.3
LEAST_WRITES = 30

Tell = Callable[[Outcome], None]

# The stack's start takes what it takes on a busy machine.
pytestmark = pytest.mark.timeout(180, func_only=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A stack whose commits wait for the primary's disk."""
    yield from running(tmp_path_factory, ENV)


@pytest.fixture(scope="module")
def synchronous_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A stack whose commits wait until a replica shows them."""
    yield from running(tmp_path_factory, {**ENV, "EMBEDDED_SYNCHRONOUS_COMMIT": "remote_apply"})


def running(factory: pytest.TempPathFactory, env: dict[str, str]) -> Iterator[Bench]:
    """Start a stack, make its accounts, and wait until its replicas are read from."""
    stack = OwnStack(factory.mktemp("replicas") / "s", arguments=ARGUMENTS, env=env)
    try:
        stack.start()
        made = stack.run("chains", "add", "quick", "--runnable", "quick")
        assert made.returncode == 0, made.stderr
        started = time.monotonic()
        bench = Bench(stack)
        # Until then what Redis does not know is no proof that nothing was written, and all is read
        # from the primary.
        time.sleep(max(0.0, POSITION_SECONDS - QUIET_SECONDS - (time.monotonic() - started)))
        yield bench
    finally:
        stack.stop()


def test_a_replica_that_crashes_again_and_again_costs_no_request(bench: Bench, tell: Tell) -> None:
    name, *_ = bench.servers.replicas
    with bench.run(breakers=0) as outcome:
        for _ in range(8):
            bench.servers.crash(name)
            # So that a pool's second try to connect, a second after its first, fails too.
            time.sleep(0.65)
    tell(outcome)
    check(outcome)
    failed = [answer for answer in outcome.history.answers if answer.status >= 500]
    assert not failed, failed[:5]
    assert not outcome.stale, show(outcome.stale)


def test_read_your_writes_holds_while_replicas_break_and_the_primary_moves(
    bench: Bench, tell: Tell
) -> None:
    with bench.run() as outcome:
        time.sleep(15)
        outcome.nemesis.restart_primary()
        time.sleep(15)
        outcome.nemesis.fail_over()
        time.sleep(max(0.0, outcome.began + 60 - time.monotonic()))
    tell(outcome)
    check(outcome)
    assert not outcome.stale, show(outcome.stale)
    assert not outcome.lost, show(outcome.lost)


def test_only_the_last_moment_may_be_lost_with_a_primary_that_is_killed(
    bench: Bench, tell: Tell
) -> None:
    with bench.run() as outcome:
        time.sleep(QUIET_SECONDS)
        lost_at, _ = outcome.nemesis.fail_over(is_killed=True)
        time.sleep(12)

    def may_be_lost(write: Write) -> bool:
        return lost_at - LOSS_SECONDS <= write.ended <= lost_at + ANSWER_SECONDS

    tell(outcome)
    check(outcome)
    # No false answer is given before the primary is lost.
    early = [miss for miss in outcome.stale if miss.read.ended < lost_at]
    wrong = [*early, *without(outcome.stale + outcome.lost, may_be_lost)]
    assert not wrong, show(wrong)


def test_nothing_is_lost_with_a_primary_that_is_killed_if_commits_wait_for_a_replica(
    synchronous_bench: Bench, tell: Tell
) -> None:
    # Commits wait for good while both replicas are broken, so that one is at a time.
    with synchronous_bench.run(breakers=1) as outcome:
        time.sleep(QUIET_SECONDS)
        outcome.nemesis.fail_over(is_killed=True)
        time.sleep(12)
    tell(outcome)
    check(outcome)
    assert not outcome.stale, show(outcome.stale)
    assert not outcome.lost, show(outcome.lost)


def check(outcome: Outcome) -> None:
    """Check all guarantees that hold under every fault."""
    assert not outcome.problems, "\n".join(outcome.problems[:10])
    assert not outcome.nemesis.disobeyed
    late = {client: gap for client, gap in outcome.gaps.items() if gap[0] > slack(GAP_SECONDS)}
    assert not late, f"reads stood still: {late}"
    # Nothing is stale or lost where nothing is written.
    assert len(outcome.history.writes) >= LEAST_WRITES
    assert outcome.share >= LEAST_SHARE, "too few reads went to replicas to prove anything"


def show(found: list[Missed]) -> str:
    """Return the first of many."""
    return "\n".join(str(miss) for miss in found[:10])


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Return what prints a run's figures, whether it passes or fails."""

    def write(outcome: Outcome) -> None:
        with capsys.disabled():
            sys.stdout.write(outcome.summary())

    return write
