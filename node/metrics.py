"""The Prometheus metrics of every node process."""

import math

from prometheus_client import Counter, Gauge, Histogram

from config.version import VERSION

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

REQUEST_SECONDS = Histogram(
    "headrace_request_seconds", "Time until an answer begins.", buckets=SECONDS
)
BUILD_INFO = Gauge("headrace_build_info", "The release that this process runs.", ["version"])
BUILD_INFO.labels(VERSION).set(1)
OVERLOAD_REFUSED = Counter(
    "headrace_overload_refused", "Requests that a busy process refused at once."
)
OVERLOAD_LIMIT = Gauge(
    "headrace_overload_limit", "Requests that may start at a time; +Inf without overload."
)
OVERLOAD_LIMIT.set(math.inf)
LOOP_STALL_SECONDS = Histogram(
    "headrace_event_loop_stall_seconds",
    "Times that one piece of work held the event loop for too long.",
    buckets=(0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
PAGES_REFUSED = Counter(
    "headrace_pages_refused", "Pages that were refused because others had all slots for pages."
)
OPEN_REQUESTS = Gauge(
    "headrace_open_requests", "API requests that are open in this process, until they are answered."
)
OPEN_BYTES = Gauge(
    "headrace_open_request_bytes", "Bytes of large bodies and answers that these hold."
)
OPEN_REFUSED = Counter(
    "headrace_open_requests_refused",
    "Requests refused because as many, or as many bytes, were open as a setting allows.",
    ["setting"],
)
