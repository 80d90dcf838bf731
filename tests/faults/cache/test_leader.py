"""When the node that makes an answer dies, those who wait for it are answered."""

from __future__ import annotations

import http.client
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.faults.cache.client import Answer
from tests.faults.cache.harness import CacheFaults
from tests.provider import Provider
from tests.support.waiting import slack

LEASE_SECONDS = 3.0
SLOW_START_SECONDS = 2.5

pytestmark = pytest.mark.timeout(90)


def test_when_the_leading_node_is_killed_the_other_one_answers(
    faults: CacheFaults, provider: Provider, mark: str
) -> None:
    leader, other = 0, 1
    (pid, *_) = faults.pids("node")
    master = psutil.Process(pid)

    def ask(node: int | None, stream: bool) -> Answer | Exception:
        client = faults.client(node)
        try:
            return client.ask("cached-slow", mark, stream=stream)
        except (http.client.HTTPException, OSError) as error:
            return error
        finally:
            client.close()

    kinds = (False, True)
    with ThreadPoolExecutor(64) as threads:
        leading = [threads.submit(ask, leader, stream) for stream in kinds]
        faults.wait_until(
            lambda: len(provider.calls_of(mark)) == 2, seconds=5, why="the provider is not called"
        )
        waiting = [threads.submit(ask, other, stream) for stream in kinds for _ in range(8)]
        public = [threads.submit(ask, None, stream) for stream in kinds for _ in range(8)]
        time.sleep(0.7)
        killed = time.monotonic()
        for process in [*master.children(recursive=True), master]:
            process.send_signal(signal.SIGKILL)
        answers = [one.result() for one in waiting]
        took = time.monotonic() - killed
        public_answers = [one.result() for one in public]
        assert all(isinstance(one.result(), Exception) for one in leading)
    for answer in answers:
        assert isinstance(answer, Answer)
        assert answer.status == 200
        assert b"At " in answer.body
        assert b"last." in answer.body
        assert b"error" not in answer.body
    # The lease, the call, and what a busy machine adds.
    assert took < slack(LEASE_SECONDS + SLOW_START_SECONDS + 0.8)
    calls = Counter(bool(call.body.get("stream")) for call in provider.calls_of(mark))
    assert max(calls.values()) <= 2, calls
    statuses = Counter(
        answer.status if isinstance(answer, Answer) else type(answer) for answer in public_answers
    )
    assert set(statuses) <= {200, 502, 503}, statuses
    assert statuses[200] > 0
    assert statuses[502] + statuses[503] > 0, "no request was at the dead node"
    faults.wait_nodes()
    # What the second call made is there for the node that comes back.
    again = faults.client(leader).ask("cached-slow", mark)
    assert again.is_hit
    assert again.content == "At last."
