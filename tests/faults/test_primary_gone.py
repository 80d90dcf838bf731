"""A primary that is gone for long, with the end of its log unsent, stops no other account."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.faults.chains import NAMES
from tests.faults.replica_stack import ServersUnderTest
from tests.support.own_stack import OwnStack

POSITION_SECONDS = 14.0
MAX_LAG_SECONDS = 2.0
ENV = {
    "CHAIN_RUNNABLES": ",".join(f"{name}=tests.faults.chains.{name}" for name in NAMES),
    "POSITION_SECONDS": str(POSITION_SECONDS),
    "REPLICA_MAX_LAG_SECONDS": str(MAX_LAG_SECONDS),
}
ARGUMENTS = ("--nodes=2", "--workers=0", "--replicas=1", "--no-llm")
# By then every process knows that the primary is gone.
SETTLED_SECONDS = 8.0
# Long after every position that is stored for POSITION_SECONDS alone.
GONE_SECONDS = 2 * POSITION_SECONDS
PAUSE_SECONDS = 0.1
# Longer than REDIS_TIMEOUT_SECONDS.
REDIS_STOPS_SECONDS = 0.3

pytestmark = pytest.mark.timeout(180, func_only=True)


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServersUnderTest]:
    """A stack with a replica."""
    stack = OwnStack(tmp_path_factory.mktemp("gone") / "s", arguments=ARGUMENTS, env=ENV)
    try:
        stack.start()
        made = stack.run("chains", "add", "quick", "--runnable", "quick")
        assert made.returncode == 0, made.stderr
        yield ServersUnderTest(stack)
    finally:
        stack.stop()


class Conversation:
    """One account's conversation, whose number is raised and read."""

    def __init__(self, servers: ServersUnderTest, account: str) -> None:
        key = servers.make_account(account).key
        headers = {"Authorization": f"Bearer {key}", "Cache-Control": "no-cache"}
        self._http = httpx.Client(base_url=servers.stack.url, headers=headers, timeout=15)
        made = self._http.post("/v1/conversations", json={"chain": "quick"})
        assert made.status_code == 201, made.text
        self._path = f"/v1/conversations/{made.json()['id']}"
        self.number = 0

    def raise_number(self) -> bool:
        """Write the next number; return whether that was acknowledged."""
        body = {"metadata": {"n": str(self.number + 1)}}
        if self._http.patch(self._path, json=body).status_code != 200:
            return False
        self.number += 1
        return True

    def read(self) -> tuple[int, int, str]:
        """Return a read's status, the number that it showed, and the body of an error."""
        answer = self._http.get(self._path)
        if answer.status_code != 200:
            return answer.status_code, -1, answer.text
        return 200, int(answer.json()["metadata"].get("n", 0)), ""


def test_reads_go_on_while_the_primary_is_gone_and_none_is_stale(
    servers: ServersUnderTest,
) -> None:
    idle, busy = Conversation(servers, "idle"), Conversation(servers, "busy")
    # Until then what Redis does not know is no proof.
    time.sleep(POSITION_SECONDS + 2)
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set() and busy.raise_number():
            time.sleep(PAUSE_SECONDS)

    writer = threading.Thread(target=write)
    writer.start()
    idle_reads: list[tuple[float, int, str]] = []
    busy_reads: Counter[tuple[int, bool]] = Counter()
    with servers.primary_lost() as lost_at:
        writer.join(20)
        is_over.set()
        acknowledged = busy.number
        time.sleep(max(0.0, lost_at + SETTLED_SECONDS - time.monotonic()))
        # As a busy machine may do at any time.
        stop = threading.Timer(GONE_SECONDS / 2, servers.stop_redis, [REDIS_STOPS_SECONDS])
        stop.start()
        while time.monotonic() < lost_at + SETTLED_SECONDS + GONE_SECONDS:
            status, _, error = idle.read()
            idle_reads.append((time.monotonic() - lost_at, status, error))
            status, shown, _ = busy.read()
            busy_reads[status, shown >= acknowledged] += 1
            time.sleep(PAUSE_SECONDS)
        stop.join()
    assert acknowledged
    assert [read for read in idle_reads if read[1] != 200] == []
    assert idle_reads[-1][0] > SETTLED_SECONDS + POSITION_SECONDS
    # What was written last did not leave the primary, and nothing else may be shown.
    assert busy_reads.keys() == {(503, False)}
