"""Metrics of notifications, for Prometheus."""

from prometheus_client import Counter

ATTEMPTS = Counter(
    "headrace_notices",
    "Attempts at deliveries that ended here, by outcome.",
    ["channel", "outcome"],
)
