"""Metrics of authentication."""

from prometheus_client import Counter

KEYS_REFUSED = Counter(
    "headrace_keys_refused",
    "Requests without a usable API key (401); code is that of the error.",
    ["code"],
)
