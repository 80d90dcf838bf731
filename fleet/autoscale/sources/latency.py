"""The latency of chain calls, from the histogram that every node exports."""

from __future__ import annotations

import math
from collections.abc import Mapping

from scaling.scrape import Metrics

METRIC = "headrace_chain_seconds_bucket"

# Calls that took at most so many seconds, by that bound; each includes the ones below it.
Buckets = Mapping[float, float]


def buckets(metrics: Metrics) -> Buckets:
    """Return a node's buckets, all chains together."""
    found: dict[float, float] = {}
    for (name, labels), count in metrics.items():
        if name == METRIC:
            bound = float(dict(labels).get("le", "inf"))
            found[bound] = found.get(bound, 0.0) + count
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
