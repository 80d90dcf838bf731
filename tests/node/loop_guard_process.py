"""Hold the event loop of this process in several ways, under the guard.

Prints a line of JSON for each way: its name, and the stalls that the guard counted meanwhile.
"""

from gevent import monkey

monkey.patch_all()

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import django
import gevent
from gevent.monkey import get_original

django.setup()

from node.loop_guard import LoopGuard
from node.metrics import LOOP_STALL_SECONDS
from tests.support.waiting import slack

STALL_SECONDS = 0.1
# The guard samples once more, and its report is a greenlet's; a busy machine takes longer.
SEEN_SECONDS = 0.3
LATE_SECONDS = 3.0
native_sleep = get_original("time", "sleep")


def in_python() -> None:
    """Compute for 0.6 s of this thread."""
    until = time.thread_time() + 0.6
    while time.thread_time() < until:
        pass


def in_c() -> None:
    """Hold the interpreter's lock in C code for some 0.6 s; the code after it is short."""
    sum(range(30_000_000))
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        pass


def in_a_blocking_call() -> None:
    """Wait without gevent's knowing."""
    native_sleep(0.6)


def in_many_short_pieces() -> None:
    """Compute for 0.3 s together, in pieces of 10 ms; each yields to the loop."""

    def piece() -> None:
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass

    gevent.joinall([gevent.spawn(piece) for _ in range(30)])


def while_stopped() -> None:
    """Stop this process for a second, in the middle of a short piece of work."""
    command = "import os, sys, time; time.sleep(2); os.kill(int(sys.argv[1]), 18)"
    with subprocess.Popen([sys.executable, "-c", command, str(os.getpid())]):
        gevent.sleep(0)
        os.kill(os.getpid(), signal.SIGSTOP)


def while_idle() -> None:
    """Wait as one should."""
    gevent.sleep(0.3)


def for_long() -> None:
    """Stand for longer than the guard waits for the end."""
    native_sleep(1.3)


STALLS: list[Callable[[], None]] = [in_python, in_c, in_a_blocking_call, for_long]
WAYS = [*STALLS, in_many_short_pieces, while_stopped, while_idle]


def figures() -> tuple[float, float]:
    """Return how many stalls were counted, and their sum in seconds."""
    samples = {s.name: s.value for metric in LOOP_STALL_SECONDS.collect() for s in metric.samples}
    return samples[f"{metric_name}_count"], samples[f"{metric_name}_sum"]


metric_name = "headrace_event_loop_stall_seconds"
LoopGuard(stall_seconds=STALL_SECONDS, stack_seconds=0.0).start()
gevent.sleep(SEEN_SECONDS)
for way in WAYS:
    count, seconds = figures()
    gevent.spawn(way).join()
    gevent.sleep(SEEN_SECONDS)
    deadline = time.monotonic() + slack(LATE_SECONDS)
    while way in STALLS and figures()[0] == count and time.monotonic() < deadline:
        gevent.sleep(0.05)
    count_after, seconds_after = figures()
    told = {"way": way.__name__, "count": count_after - count, "seconds": seconds_after - seconds}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
os._exit(0)
