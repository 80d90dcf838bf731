"""A process has one thread of a kind, which goes on after errors and is not inherited by a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from config.background import BackgroundThread
from tests.support.background import stop_background_threads

WAIT_SECONDS = 10.0
# A process of gevent's forks while its greenlet sleeps, and the child gets a copy of it.
UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import os
import gevent
from tests.config.test_background import Ticks
ticks = Ticks()
ticks.start()
gevent.sleep(0.05)
assert ticks.number > 0
child = os.fork()
if child == 0:
    assert ticks.number == 0
    gevent.sleep(0.05)
    idle = ticks.number
    ticks.start()
    gevent.sleep(0.05)
    os._exit(0 if idle == 0 and ticks.number > 0 else 1)
_, status = os.waitpid(child, 0)
before = ticks.number
gevent.sleep(0.05)
assert os.waitstatus_to_exitcode(status) == 0
assert ticks.number > before
"""


class Ticks(BackgroundThread):
    """Counts its ticks; the first `errors` raise."""

    name = "ticks"
    interval_seconds = 0.001

    def __init__(self, *, errors: int = 0) -> None:
        self.errors = errors
        self.failures = 0
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self.number = 0
        self.prepared = 0
        self.went_on = threading.Event()
        self.threads: set[int] = set()

    def prepare(self) -> None:
        self.prepared += 1

    def tick(self) -> None:
        self.threads.add(threading.get_ident())
        self.number += 1
        if self.number <= self.errors:
            raise ValueError("a tick of the test")
        self.went_on.set()

    def count_failure(self) -> None:
        self.failures += 1


class Blocked(Ticks):
    """Its tick waits for `gate`, and `entered` is set while it does."""

    ticks_at_once = True

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.gate = threading.Event()
        super().__init__()

    def tick(self) -> None:
        super().tick()
        self.entered.set()
        self.gate.wait()


# Made before the test run freezes all objects that it has then.
OF_THE_MODULE = Blocked()


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    made = Blocked()
    yield made
    made.reset()
    made.gate.set()


def thread_of(made: BackgroundThread) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == made.name]


def test_many_that_start_it_get_one_thread_that_was_prepared_once(blocked: Blocked) -> None:
    with ThreadPoolExecutor(16) as callers:
        for _ in range(200):
            callers.submit(blocked.start)
    assert blocked.entered.wait(WAIT_SECONDS)
    assert (len(thread_of(blocked)), blocked.prepared) == (1, 1)


def test_a_tick_that_raises_is_logged_and_counted_and_the_next_one_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ticks = Ticks(errors=2)
    ticks.start()
    assert ticks.went_on.wait(WAIT_SECONDS)
    ticks.reset()
    assert ticks.failures == 2
    logged = [record for record in caplog.records if record.exc_info]
    assert [record.getMessage() for record in logged] == ["the thread ticks failed"] * 2


def test_after_a_reset_the_thread_ends_without_another_tick(blocked: Blocked) -> None:
    blocked.start()
    assert blocked.entered.wait(WAIT_SECONDS)
    (thread,) = thread_of(blocked)
    blocked.reset()
    blocked.gate.set()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    assert blocked.number == 0


def test_a_test_stops_the_threads_of_all_modules(blocked: Blocked) -> None:
    both = blocked, OF_THE_MODULE
    for made in both:
        made.start()
        assert made.entered.wait(WAIT_SECONDS)
    threads = thread_of(blocked)
    assert len(threads) == len(both)
    stop_background_threads()
    for made in both:
        made.gate.set()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert not any(thread.is_alive() for thread in threads)


def test_after_a_reset_it_starts_again(blocked: Blocked) -> None:
    blocked.start()
    assert blocked.entered.wait(WAIT_SECONDS)
    blocked.reset()
    blocked.entered.clear()
    blocked.start()
    assert blocked.entered.wait(WAIT_SECONDS)
    assert blocked.number == 1


def test_a_fork_while_it_is_being_started_does_not_lock_the_child() -> None:
    forked = threading.Event()

    class Slow(Ticks):
        def prepare(self) -> None:
            # Holds the lock of `start`.
            entered.set()
            forked.wait(WAIT_SECONDS)

    entered = threading.Event()
    slow = Slow()
    starter = threading.Thread(target=slow.start)
    starter.start()
    assert entered.wait(WAIT_SECONDS)
    child = os.fork()
    if child == 0:
        forked.set()
        slow.start()
        os._exit(0 if slow.went_on.wait(WAIT_SECONDS) else 1)
    forked.set()
    _, status = os.waitpid(child, 0)
    starter.join()
    slow.reset()
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_copy_of_a_greenlet_ends_in_a_forked_child() -> None:
    subprocess.run([sys.executable, "-c", UNDER_GEVENT], check=True, timeout=60)
