"""What the notices count, for Prometheus."""

from prometheus_client import Counter

NOTICES = Counter(
    "headrace_notices",
    "Delivery attempts that ended here, by outcome.",
    ["channel", "outcome"],
)
