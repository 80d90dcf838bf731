"""Stalls of the event loops of nodes and workers, from their logs.

Read while the stacks are there, and printed at the end of the test run. They fail no test: what
this machine does besides may cause them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

STALL = re.compile(rb"the event loop was blocked for ([0-9.]+) s: (.*)")
# Frames of a stack that are shown.
FRAMES = 6


class Stalls:
    """The stalls in the logs of this test run's stacks."""

    def __init__(self) -> None:
        self._offsets: dict[Path, int] = {}
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def skip(self, state_dir: Path) -> None:
        """Leave out what a stack has logged until now."""
        for path in _logs(state_dir):
            self._offsets[path] = path.stat().st_size

    def collect(self, state_dir: Path) -> None:
        """Read what a stack has logged since the last time."""
        for path in _logs(state_dir):
            text = path.read_bytes()
            offset = self._offsets.get(path, 0)
            # supervisord begins another file when one is full.
            new = text[offset if offset <= len(text) else 0 :]
            self._offsets[path] = len(text)
            for seconds, stack in STALL.findall(new):
                frames = stack.decode(errors="replace").split(" < ")
                self.seconds[" < ".join(frames[:FRAMES])].append(float(seconds))

    def add(self, seconds: Mapping[str, list[float]]) -> None:
        """Add what another process of this test run has read."""
        for stack, found in seconds.items():
            self.seconds[stack].extend(found)


def _logs(state_dir: Path) -> list[Path]:
    return [
        path for kind in ("node", "worker") for path in (state_dir / "logs").glob(f"{kind}*.log")
    ]


STALLS = Stalls()


def summarize(reporter: pytest.TerminalReporter) -> None:
    """Print the stalls, the longest first."""
    if not STALLS.seconds:
        return
    reporter.section("stalls of event loops")
    for stack, seconds in sorted(STALLS.seconds.items(), key=lambda item: -max(item[1])):
        reporter.write_line(f"{len(seconds)} x, at most {max(seconds):.2f} s: {stack}")
