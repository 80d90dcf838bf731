"""Figures of the autoscaler, exported by its own process at AUTOSCALE_BIND."""

from prometheus_client import Counter, Gauge

TARGET = Gauge("headrace_autoscale_target", "Nodes or workers that a fleet should have.", ["fleet"])
SIZE = Gauge("headrace_autoscale_size", "Nodes or workers that a fleet has.", ["fleet"])
LEADER = Gauge("headrace_autoscale_leader", "Whether this process holds the lease and scales.")
DECISIONS = Counter(
    "headrace_autoscale_decisions", "Decisions by fleet and outcome.", ["fleet", "kind"]
)
FAILURES = Counter(
    "headrace_autoscale_failures",
    "Steps of the loop that failed: lease, count, measure, decide, record or act.",
    ["step"],
)
