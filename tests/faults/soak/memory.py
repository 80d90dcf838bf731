"""Each process's memory during a run, and whether it grows without end."""

from __future__ import annotations

import csv
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from tests.support.own_stack import OwnStack

SAMPLE_SECONDS = 2.0
# A process fills its caches and pools first.
WARM_UP_SHARE = 0.1
# Fewer samples say nothing.
LEAST_SAMPLES = 12
# What a flat one may take more in its last quarter than in its first.
MORE_SHARE = 0.15
MORE_BYTES = 12 * 1024 * 1024
MORE_FILES = 25
MORE_THREADS = 10
KINDS = ("node", "worker", "haproxy", "redis", "supervisord")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at a process with its children; `at` in seconds from the beginning."""

    at: float
    part: str
    pid: int
    rss_bytes: int
    files: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A process in the first and in the last quarter of its life: medians."""

    part: str
    pid: int
    seconds: float
    first_bytes: int
    last_bytes: int
    first_files: int
    last_files: int
    first_threads: int
    last_threads: int

    @property
    def is_flat(self) -> bool:
        """Whether it takes no more than it did."""
        return (
            self.last_bytes <= self.first_bytes * (1 + MORE_SHARE) + MORE_BYTES
            and self.last_files <= self.first_files + MORE_FILES
            and self.last_threads <= self.first_threads + MORE_THREADS
        )


def growths(samples: Iterable[Sample]) -> list[Growth]:
    """Compare the quarters of each process that lived long enough, the longest life of a part."""
    lives: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.part, sample.pid].append(sample)
    longest: dict[str, Growth] = {}
    for (part, pid), life in lives.items():
        warm = life[int(len(life) * WARM_UP_SHARE) :]
        if len(warm) < LEAST_SAMPLES:
            continue
        quarter = len(warm) // 4
        first, last = warm[:quarter], warm[-quarter:]
        found = Growth(
            part=part,
            pid=pid,
            seconds=life[-1].at - life[0].at,
            first_bytes=_median(sample.rss_bytes for sample in first),
            last_bytes=_median(sample.rss_bytes for sample in last),
            first_files=_median(sample.files for sample in first),
            last_files=_median(sample.files for sample in last),
            first_threads=_median(sample.threads for sample in first),
            last_threads=_median(sample.threads for sample in last),
        )
        if part not in longest or longest[part].seconds < found.seconds:
            longest[part] = found
    return [longest[part] for part in sorted(longest)]


class Sampler:
    """Looks at all processes of a stack every SAMPLE_SECONDS, from a thread."""

    def __init__(self, stack: OwnStack) -> None:
        self.samples: list[Sample] = []
        self._stack = stack
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def write(self, path: Path) -> None:
        """Write all samples as CSV."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
            writer.writeheader()
            writer.writerows(asdict(sample) for sample in self.samples)

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            record = self._stack.record()
            pids = {"supervisord": (record.get("supervisord") or {}).get("pid", 0)}
            for part in self._stack.status()["parts"]:
                if part["kind"] in KINDS:
                    pids[part["name"]] = part["pid"]
            for name, pid in pids.items():
                self._look(name, pid)

    def _look(self, name: str, pid: int) -> None:
        try:
            process = psutil.Process(pid)
            # supervisord's children are the parts.
            family = [process] if name == "supervisord" else [process, *process.children(True)]
            memory = sum(each.memory_info().rss for each in family)
            files = sum(each.num_fds() for each in family)
            threads = sum(each.num_threads() for each in family)
        # It was killed just now, or its children were.
        except psutil.Error:
            return
        self.samples.append(
            Sample(
                at=round(time.monotonic() - self._began, 1),
                part=name,
                pid=family[-1].pid,
                rss_bytes=memory,
                files=files,
                threads=threads,
            )
        )


def _median(values: Iterable[int]) -> int:
    return int(statistics.median(values))
