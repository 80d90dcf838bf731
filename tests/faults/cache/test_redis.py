"""Answers are right and quick under every fault of Redis."""

from __future__ import annotations

import itertools
import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults.cache.client import Answer
from tests.faults.cache.harness import CacheFaults
from tests.support.waiting import slack

pytestmark = pytest.mark.timeout(90)


@dataclass
class Load:
    """About 100 requests a second through HAProxy, three quarters of them the same few."""

    faults: CacheFaults
    mark: str
    asked: list[tuple[Answer, bool]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    PER_SECOND = 100
    THREADS = 20
    QUESTIONS = 20

    def __enter__(self) -> Load:
        for node in range(2):
            client = self.faults.client(node)
            for number in range(self.QUESTIONS):
                client.ask("cached", f"{self.mark} hit {number}")
            client.close()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(self.THREADS)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def between(self, start: float, end: float, *, is_known: bool) -> list[Answer]:
        """Return the answers to requests of that time."""
        return [
            answer
            for answer, known in list(self.asked)
            if known is is_known and start <= answer.asked_at < end
        ]

    def _run(self, thread: int) -> None:
        client = self.faults.client()
        pause = self.THREADS / self.PER_SECOND
        at = time.monotonic() + pause * thread / self.THREADS
        for number in itertools.count():
            if self._over.wait(max(0.0, at - time.monotonic())):
                break
            at = max(at + pause, time.monotonic())
            is_known = (thread + number) % 4 != 0
            what = f"hit {random.randrange(self.QUESTIONS)}" if is_known else f"{thread}.{number}"
            text = f"{self.mark} {what}"
            try:
                answer = client.ask("cached", text)
                self.asked.append((answer, is_known))
                if answer.status != 200:
                    self.problems.append(f"{answer.status} {answer.body[:200]!r}")
                elif answer.echoed != text:
                    self.problems.append(f"{text!r} was answered with {answer.content[:200]}")
            except Exception as error:
                self.problems.append(repr(error))
        client.close()


@pytest.mark.parametrize("harm", ["killed", "frozen", "full", "rubbish"])
def test_while_redis_does_not_work_every_answer_is_right_and_quick(
    faults: CacheFaults, mark: str, harm: str
) -> None:
    away: Callable[[], Any] = getattr(faults, f"redis_{harm}")
    failures = faults.metric("headrace_redis_failures_total")
    errors = faults.metric("headrace_cache_results_total", result="error")
    with Load(faults, mark) as load:
        began = time.monotonic()
        time.sleep(1.2)
        harmed = time.monotonic()
        with away():
            time.sleep(2.5)
            healed = time.monotonic()
        # A node probes Redis after REDIS_RETRY_SECONDS.
        time.sleep(1.2)
        settled = time.monotonic()
        time.sleep(1)
        ended = time.monotonic()
    assert load.problems == []
    everything = [answer for answer, _ in load.asked]
    assert len(everything) > 0.8 * load.PER_SECOND * (ended - began), "it cannot keep up"
    assert max(answer.seconds for answer in everything) < 1.0
    for is_known in (True, False):
        before = load.between(began, harmed, is_known=is_known)
        during = load.between(harmed, healed, is_known=is_known)
        added = _median(during) - _median(before)
        assert added <= slack(0.05), (is_known, added)
    # What each node has at hand hits also in between.
    assert any(answer.is_hit for answer in load.between(harmed, healed, is_known=True))
    again = load.between(settled, ended, is_known=True)
    # What was made in between, or spoiled, is made once more.
    share = sum(answer.is_hit for answer in again) / len(again)
    assert share > 0.75, share
    assert all(not answer.is_hit for answer in load.between(began, ended, is_known=False))
    # Metrics count it.
    assert faults.metric("headrace_cache_results_total", result="error") > errors
    kinds = {
        "killed": ("connection",),
        "frozen": ("timeout",),
        "full": ("refused",),
        "rubbish": (),
    }[harm]
    told = faults.metric("headrace_redis_failures_total") - failures
    assert (told > 0) == bool(kinds)
    for kind in kinds:
        assert faults.metric("headrace_redis_failures_total", kind=kind) > 0
    # Nodes share again, the old questions and new ones.
    for number in range(load.QUESTIONS):
        faults.client(0).ask("cached", f"{mark} hit {number}")
        assert faults.client(1).ask("cached", f"{mark} hit {number}").is_hit, number
    assert faults.client(0).ask("cached", f"{mark} shared").cache_status.endswith("stored")
    assert faults.client(1).ask("cached", f"{mark} shared").cache_status.endswith("detail=store")


def _median(answers: list[Answer]) -> float:
    return statistics.median(answer.seconds for answer in answers)
