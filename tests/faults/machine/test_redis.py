"""Redis moves, freezes or accepts without an answer: requests go on, and all is as before."""

from __future__ import annotations

import itertools
import time

import httpx
import pytest

from tests.faults.machine.harness import MachineFaults
from tests.support.waiting import eventually, slack

pytestmark = pytest.mark.timeout(180, func_only=True)

ILL_SECONDS = 4.0
# Design: two timeouts of Redis, a replica's pool, and what a busy machine adds.
SLOWEST_SECONDS = 3.0
PER_MINUTE = 60
ASKED = 110


def test_a_redis_that_fails_over_behind_its_name_is_found_again(faults: MachineFaults) -> None:
    key = faults.make_key("moved", f"--requests-per-minute={PER_MINUTE}")
    with faults.clients() as answers:
        time.sleep(1)
        old = faults.fail_over()
        # Ours looks; replicas have connections of another type.
        eventually(
            lambda: old.client().client_list(_type="normal")[1:] == [],
            seconds=15,
            what="no connection is left on the old server",
        )
    assert answers.problems == []
    faults.check_all()
    _is_shared_again(faults)
    # A node that is still without Redis would let the full limit pass by itself.
    nodes = itertools.cycle(faults.databases.nodes.values())
    began, passed = time.monotonic(), 0
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}) as client:
        for address in itertools.islice(nodes, ASKED):
            passed += client.get(f"http://{address}/v1/models").status_code == 200
    seconds = time.monotonic() - began
    assert PER_MINUTE <= passed <= PER_MINUTE + seconds + 1, (passed, seconds)


@pytest.mark.parametrize("how", ["frozen", "silent"])
def test_a_redis_that_does_not_answer_delays_no_client(faults: MachineFaults, how: str) -> None:
    server = faults.current
    with faults.clients() as answers:
        time.sleep(1)
        if how == "frozen":
            server.freeze()
        else:
            # As before a server that is half dead: open connections are well, new ones hang.
            faults.name.is_silent = True
            time.sleep(ILL_SECONDS / 2)
            server.client().client_kill_filter(_type="normal", skipme=True)
        time.sleep(ILL_SECONDS)
        server.thaw()
        faults.name.is_silent = False
        time.sleep(1)
    assert answers.problems == []
    assert answers.slowest() < slack(SLOWEST_SECONDS)
    faults.check_all()
    _is_shared_again(faults)


def test_a_frozen_redis_and_a_frozen_replica_at_once(faults: MachineFaults) -> None:
    (replica,) = faults.databases.replicas
    faults.databases.await_rotation(replica)
    server = faults.current
    with faults.clients() as answers:
        time.sleep(1)
        server.freeze()
        with faults.databases.frozen(replica):
            time.sleep(ILL_SECONDS)
        server.thaw()
        time.sleep(1)
    assert answers.problems == []
    assert answers.slowest() < slack(SLOWEST_SECONDS)
    faults.check_all()
    faults.databases.await_rotation(replica)
    _is_shared_again(faults)


def _is_shared_again(faults: MachineFaults) -> None:
    """Wait until both nodes count in the same Redis again."""
    key = {"Authorization": f"Bearer {faults.make_key('again', '--requests-per-minute=1')}"}

    def second_is_refused() -> bool:
        answers = [
            httpx.get(f"http://{address}/v1/models", headers=key).status_code
            for address in faults.databases.nodes.values()
        ]
        return answers.count(429) > 0

    eventually(second_is_refused, seconds=10, what="one limit for both nodes")
