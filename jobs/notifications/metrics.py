"""Metrics of notifications, for Prometheus."""

from prometheus_client import Counter

ATTEMPTS = Counter(
    "headrace_notices",
    "Delivery attempts that ended here, by outcome.",
    ["channel", "outcome"],
)
