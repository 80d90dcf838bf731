"""Nobody misses a write of their own, whatever happens to the database servers.

`FAULTS_SEED` repeats the choices of a run, though not their timing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from tests.faults.chains import NAMES
from tests.faults.history import Missed
from tests.faults.replica_run import Bench, Outcome
from tests.scaling.conftest import OwnStack

POSITION_SECONDS = 15.0
ENV = {
    "CHAIN_RUNNABLES": ",".join(f"{name}=tests.faults.chains.{name}" for name in NAMES),
    "POSITION_SECONDS": str(POSITION_SECONDS),
    "REPLICA_MAX_LAG_SECONDS": "4",
}
ARGUMENTS = ("--nodes=2", "--workers=1", "--replicas=2", "--no-llm")
# Without an answer for so long, reads are not served throughout.
GAP_SECONDS = 2.0
LEAST_SHARE = 0.3

pytestmark = pytest.mark.timeout(240)


def make_bench(stack: OwnStack) -> Bench:
    """Return a stack that is ready for a run."""
    stack.start()
    made = stack.manage("chains", "add", "quick", "--runnable", "quick")
    assert made.returncode == 0, made.stderr
    started = time.monotonic()
    bench = Bench(stack)
    # Until then what Redis does not know is no proof that nothing was written.
    time.sleep(max(0.0, POSITION_SECONDS - (time.monotonic() - started)))
    return bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A stack whose commits wait for the primary's disk."""
    stack = OwnStack(tmp_path_factory.mktemp("replicas") / "s", arguments=ARGUMENTS, env=ENV)
    try:
        yield make_bench(stack)
    finally:
        stack.stop()


def run(bench: Bench, *, seconds: float) -> Outcome:
    load, nemesis = bench.begin()
    before = bench.servers.reads()
    load.start()
    nemesis.start()
    began = time.monotonic()
    time.sleep(seconds / 4)
    nemesis.restart_primary()
    time.sleep(max(0.0, began + seconds * 0.55 - time.monotonic()))
    nemesis.fail_over(is_killed=False)
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    return bench.end(load, nemesis, began, before)


def check(outcome: Outcome) -> None:
    """Check all that holds whatever happened."""
    assert not outcome.problems, "\n".join(outcome.problems[:10])
    assert not outcome.nemesis.disobeyed
    late = {client: gap for client, gap in outcome.gaps.items() if gap[0] > GAP_SECONDS}
    assert not late, f"reads stood still: {late}"
    assert outcome.share >= LEAST_SHARE, "too few reads went to replicas to prove anything"


def tell(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(outcome.summary())


def show(found: list[Missed]) -> str:
    return "\n".join(str(miss) for miss in found[:10])


def test_nobody_misses_a_write_while_replicas_break_and_the_primary_moves(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = run(bench, seconds=60)
    tell(outcome, capsys)
    assert not outcome.stale, show(outcome.stale)
    assert not outcome.lost, show(outcome.lost)
    check(outcome)
