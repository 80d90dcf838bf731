"""HAProxy's counters of the web nodes, from its statistics page.

The page rather than the Runtime API's socket: it is reachable also where HAProxy runs in another
container. Source: https://docs.haproxy.org/2.8/management.html#9.1
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.autoscale.errors import MeasureError
from fleet.haproxy import BACKEND
from scaling.scrape import ScrapeError, fetch


@dataclass(frozen=True, kw_only=True)
class ProxyCounts:
    """Requests since HAProxy's start, and how many wait in its queues or are at nodes now."""

    requests: int
    queued: int
    sessions: int
    # Of the servers that take requests, by name.
    addresses: Mapping[str, str] = field(default_factory=dict)


def values(
    before: ProxyCounts | None, after: ProxyCounts, *, seconds: float, nodes: int
) -> dict[str, float]:
    """Return what came by measure, for each of so many nodes; rates need two readings."""
    nodes = max(1, nodes)
    found = {"sessions": after.sessions / nodes}
    if before is None or seconds <= 0:
        return found
    # HAProxy's counters begin again when it does.
    done = after.requests - before.requests
    done = done if done >= 0 else after.requests
    found["requests_per_minute"] = 60 * done / seconds / nodes
    # Little's law: who waits, by how many come a second. HAProxy's own mean is of the last 1,024
    # requests, which at night are those of the evening.
    found["queue_ms"] = 1000 * after.queued * seconds / max(done, 1)
    return found


def read(url: str) -> ProxyCounts:
    """Return the counts of the page at this URL; raise `MeasureError` when it cannot be read."""
    try:
        return parse(fetch(f"{url}/;csv"))
    except ScrapeError as error:
        raise MeasureError(f"HAProxy's statistics at {url} cannot be read: {error}") from error


def parse(text: str) -> ProxyCounts:
    """Return the counts of the web backend."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    found = [row for row in rows if row.get("pxname") == BACKEND]
    total = next((row for row in found if row.get("svname") == "BACKEND"), None)
    if total is None:
        raise MeasureError(f"HAProxy's statistics have no backend {BACKEND}")
    return ProxyCounts(
        requests=_number(total, "req_tot"),
        # A request waits at the backend, or at a server that it must go to.
        queued=sum(_number(row, "qcur") for row in found),
        sessions=_number(total, "scur"),
        addresses={
            row["svname"]: row["addr"]
            for row in found
            if row.get("addr") and row.get("status", "").startswith("UP")
        },
    )


def _number(row: dict[str, str], column: str) -> int:
    try:
        return int(row[column] or 0)
    except (KeyError, ValueError) as error:
        raise MeasureError(f"HAProxy's statistics have no number in {column}") from error
