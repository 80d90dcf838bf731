"""A process is trimmed when it has grown, and only then."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# Some blocks of the burst stay, so that glibc cannot return the end of its heap by itself.
CODE = """
import json, os, sys
from node.memory import MAX_TRIM_SECONDS, MemoryTrimmer, bound_allocator, rss_bytes

bound_allocator()
memory = MemoryTrimmer()
# As gunicorn does: made in the arbiter, which is smaller than a worker with the application.
if pid := os.fork():
    sys.exit(os.waitpid(pid, 0)[1])
application = [os.urandom(1000) for _ in range(80_000)]
seen = {}
memory.tick(0.0)
seen["not begun"] = memory.trims
memory.begin()
for now in range(0, 600, 10):
    memory.tick(float(now))
seen["no larger"] = memory.trims
before = rss_bytes()
burst = [b"x" * 60_000 for _ in range(1000)]
held = burst[99::100]
seen["grown"] = rss_bytes() - before
del burst
memory.tick(600.0)
seen["just grown"] = memory.trims
memory.tick(610.0)
seen["after a burst"] = memory.trims
seen["left"] = rss_bytes() - before
del held
memory.tick(620.0)
trims, first = memory.trims, rss_bytes()
growing = []
for now in range(630, 690, 10):
    growing += [b"x" * 60_000 for _ in range(300)]
    memory.tick(float(now))
seen["while growing"] = memory.trims - trims
seen["growth"] = rss_bytes() / first
del growing
buffers, released = [], []
memory.begin(lambda: released.append(now), buffers.clear)
buffers += [b"x" * 60_000 for _ in range(1000)]
for now in range(700, 800):
    memory.tick(float(now))
seen["released at"] = list(released)
seen["released"] = rss_bytes() - before
large = [b"x" * 60_000 for _ in range(1000)]
trims = memory.trims
for now in range(1000, 1000 + 600):
    memory.tick(float(now))
seen["large for ten minutes"] = memory.trims - trims
seen["releases while large"] = len(released) - 1
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """The measures of a process of its own, whose memory is no other test's."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_process_that_has_loaded_its_application_is_not_trimmed(seen: dict[str, Any]) -> None:
    assert seen["not begun"] == 0
    assert seen["no larger"] == 0


def test_a_burst_is_returned(seen: dict[str, Any]) -> None:
    assert seen["grown"] > 50_000_000
    assert seen["just grown"] == 0
    assert seen["after a burst"] == 1
    assert seen["left"] < 10_000_000


def test_a_process_that_grows_is_trimmed_when_it_has_doubled(seen: dict[str, Any]) -> None:
    assert 2 < seen["growth"] < 4
    assert seen["while growing"] == 1


def test_what_holds_a_burst_is_dropped_once_the_process_has_settled(seen: dict[str, Any]) -> None:
    assert seen["released at"] == [720]
    assert seen["released"] < 10_000_000


def test_a_process_that_stays_large_is_trimmed_once_a_minute(seen: dict[str, Any]) -> None:
    assert 10 <= seen["large for ten minutes"] <= 14
    assert seen["releases while large"] == 1
