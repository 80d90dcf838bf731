from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from scaling.fair_semaphore import FairSemaphore


def test_as_many_as_allowed_are_in_at_once():
    semaphore = FairSemaphore(2)
    assert semaphore.acquire(timeout_seconds=0)
    assert semaphore.acquire(timeout_seconds=0)
    assert not semaphore.acquire(timeout_seconds=0.01)
    semaphore.release()
    assert semaphore.acquire(timeout_seconds=0)


def test_who_gave_up_waiting_takes_no_turn_with_him():
    semaphore = FairSemaphore(1)
    semaphore.acquire(timeout_seconds=0)
    assert not semaphore.acquire(timeout_seconds=0.01)
    semaphore.release()
    assert semaphore.acquire(timeout_seconds=0)


def test_the_first_to_come_is_the_first_to_go():
    semaphore = FairSemaphore(1)
    semaphore.acquire(timeout_seconds=0)
    order = []

    def wait(number):
        assert semaphore.acquire(timeout_seconds=10)
        order.append(number)
        semaphore.release()

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
        time.sleep(0.01)
    semaphore.release()
    for thread in threads:
        thread.join(10)
    assert order == list(range(10))


def test_no_turn_is_lost_or_made_when_waiting_times_out_just_then():
    semaphore = FairSemaphore(3)
    inside, most = [], []

    def work(_):
        for _ in range(200):
            if semaphore.acquire(timeout_seconds=0.0005):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0002)
                inside.pop()
                semaphore.release()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert max(most) <= 3
    assert [semaphore.acquire(timeout_seconds=0) for _ in range(4)] == [True, True, True, False]


def test_greenlets_that_never_pause_starve_no_other_and_killed_ones_leave_the_queue():
    code = """
from gevent import monkey; monkey.patch_all()
import time, gevent
from scaling.fair_semaphore import FairSemaphore
semaphore, waits = FairSemaphore(2), []
def work():
    for _ in range(50):
        started = time.monotonic()
        assert semaphore.acquire(timeout_seconds=5)
        waits.append(time.monotonic() - started)
        gevent.sleep(0.0001)
        semaphore.release()
gevent.joinall([gevent.spawn(work) for _ in range(20)], raise_error=True)
assert max(waits) < 0.5, max(waits)
semaphore.acquire(timeout_seconds=0), semaphore.acquire(timeout_seconds=0)
waiting = [gevent.spawn(semaphore.acquire, timeout_seconds=60) for _ in range(5)]
gevent.sleep(0.01)
gevent.killall(waiting)
semaphore.release(), semaphore.release()
got = [semaphore.acquire(timeout_seconds=0) for _ in range(3)]
assert got == [True, True, False], got
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
