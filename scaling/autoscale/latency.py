"""The latency of chain calls, from the histogram that every node exports."""

from __future__ import annotations

import http.client
import math
import re
import urllib.error
import urllib.request
from collections.abc import Mapping

from scaling.autoscale.errors import MeasureError

TIMEOUT_SECONDS = 2.0
METRIC = "headrace_chain_seconds_bucket"
LINE = re.compile(rf'^{METRIC}{{.*?le="([^"]+)".*?}} (\S+)', re.MULTILINE)

# Calls that took at most so many seconds, by that bound; each includes the ones below it.
Buckets = Mapping[float, float]


def read(address: str) -> Buckets:
    """Return a node's buckets, all chains together; raise `MeasureError` when it is silent."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=TIMEOUT_SECONDS) as answer:
            return parse(answer.read().decode("utf-8", errors="replace"))
    except (OSError, urllib.error.URLError, http.client.HTTPException) as error:
        raise MeasureError(f"the metrics of {address} cannot be read: {error}") from error


def parse(text: str) -> Buckets:
    """Return the sum of the histogram's series in a text of metrics."""
    found: dict[float, float] = {}
    for bound, count in LINE.findall(text):
        found[float(bound)] = found.get(float(bound), 0.0) + float(count)
    return found


def since(before: Buckets, after: Buckets) -> Buckets:
    """Return what came between two readings; after a restart the later is all there is."""
    if any(after.get(bound, 0) < count for bound, count in before.items()):
        return after
    return {bound: count - before.get(bound, 0) for bound, count in after.items()}


def quantile(share: float, buckets: Buckets) -> float:
    """Return the seconds that this share of calls took at most; 0 without calls.

    Within a bucket calls are taken to be spread evenly, as Prometheus's `histogram_quantile` does.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    if total <= 0:
        return 0.0
    rank = share * total
    lower, below = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank and count > below:
            # Of what is above the last finite bound only that is known.
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def p95_ms(before: Mapping[str, Buckets], after: Mapping[str, Buckets]) -> float:
    """Return what 95 of 100 calls took at most, of the nodes that both readings know."""
    total: dict[float, float] = {}
    for name in before.keys() & after.keys():
        for bound, count in since(before[name], after[name]).items():
            total[bound] = total.get(bound, 0.0) + count
    return 1000 * quantile(0.95, total)
