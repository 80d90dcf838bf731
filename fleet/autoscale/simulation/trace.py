"""Recorded traffic: a CSV file with the columns `time` and `requests_per_second`.

`time` is in seconds from anywhere, or an ISO 8601 date and time. A rate holds until the next line.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.autoscale.errors import TraceError

TIME = "time"
RATE = "requests_per_second"
# More than any site has, and sums of it stay numbers.
MAX_RATE = 1e9


@dataclass(frozen=True, kw_only=True)
class Point:
    """From `at` seconds after the trace's start, so many requests a second come."""

    at: float
    rate: float


def read(path: Path) -> list[Point]:
    """Return a trace's points in order; raise `TraceError` that names the file and the line."""
    try:
        # Spreadsheets begin a file with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(line for line in file if not line.startswith("#"))
            if not {TIME, RATE} <= set(reader.fieldnames or ()):
                raise TraceError(f"{path}: needs a first line with {TIME} and {RATE}")
            points = [_point(row, f"{path}, row {n}") for n, row in enumerate(reader, start=1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: {error}") from error
    if len(points) < 2:
        raise TraceError(f"{path}: needs two points at least")
    start = points[0].at
    for number, (before, after) in enumerate(itertools.pairwise(points), start=2):
        if after.at <= before.at:
            raise TraceError(f"{path}, row {number}: time must grow from row to row")
    return [Point(at=point.at - start, rate=point.rate) for point in points]


def rates(points: Sequence[Point], step_seconds: float) -> list[float]:
    """Return the mean rate of each step; what a trace's last step lacks is left out."""
    found = []
    total = points[-1].at
    number, at = 0, 0.0
    while at + step_seconds <= total + 1e-9:
        end, requests = at + step_seconds, 0.0
        while at < end - 1e-9:
            while number + 1 < len(points) and points[number + 1].at <= at + 1e-9:
                number += 1
            until = points[number + 1].at if number + 1 < len(points) else end
            until = min(until, end)
            requests += points[number].rate * (until - at)
            at = until
        found.append(requests / step_seconds)
        at = end
    return found


def _point(row: dict[str, str], position: str) -> Point:
    try:
        rate = float(row[RATE])
        at = _seconds(row[TIME])
    except (TypeError, ValueError) as error:
        raise TraceError(f"{position}: {error}") from error
    if not 0 <= rate <= MAX_RATE:
        raise TraceError(f"{position}: {RATE} must be from 0 to {MAX_RATE:g}")
    if not math.isfinite(at):
        raise TraceError(f"{position}: {TIME} must be a number of seconds, or a date and time")
    return Point(at=at, rate=rate)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()
