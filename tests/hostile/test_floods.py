"""No flood takes the service from another account."""

from __future__ import annotations

import sys
import time

import pytest

from tests.hostile.conftest import Hostile
from tests.hostile.floods import FLOODS, Flood, flooding
from tests.hostile.watch import MAX_MEMORY_BYTES, Watch
from tests.support.waiting import slack

FLOOD_SECONDS = 8.0
WRITES = 10
# The aim is 0.3 s; the flood's own clients share two processors with the stack here.
P99_SECONDS = 0.8

# The stack's start takes what it takes on a busy machine.
pytestmark = pytest.mark.timeout(120, func_only=True)


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.name)
def test_no_flood_takes_the_service_from_another_account(hostile: Hostile, flood: Flood) -> None:
    watch = Watch(hostile.stack, hostile.other)
    before = flood.reached(hostile) if flood.reached else 0
    with flooding(flood, hostile) as answers, watch.running():
        ends = time.monotonic() + FLOOD_SECONDS
        writes = [write(hostile) for _ in range(WRITES)]
        time.sleep(max(0.0, ends - time.monotonic()))
    reached = flood.reached(hostile) - before if flood.reached else 1
    sys.stdout.write(
        f"{flood.name}: others' p50 {watch.p50:.3f} s, p99 {watch.p99:.3f} s,"
        f" slowest {max(watch.seconds):.3f} s, {len(watch.seconds)} requests;"
        f" the attacker's answers {dict(answers)}, {reached} reached, at most"
        f" {max(watch.peak.values()) // 2**20} MB\n"
    )
    sys.stdout.flush()
    # A flood that does nothing would harm no other account.
    for kinds, least in flood.answers.items():
        assert sum(answers[kind] for kind in kinds) >= least, (kinds, dict(answers))
    assert reached
    assert writes == [201] * WRITES
    # A node that leaves rotation, or is too busy, answers 503.
    assert watch.statuses == {200}
    assert not watch.ended
    assert max(watch.peak.values()) < MAX_MEMORY_BYTES
    assert watch.p99 < slack(P99_SECONDS)


def write(hostile: Hostile) -> int:
    """Write something of the other account, with a pause; return the status."""
    time.sleep(0.1)
    return hostile.other.post("/v1/conversations", json={"chain": "echo"}).status_code
