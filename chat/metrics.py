"""Prometheus metrics of the chat package."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

CHAIN_CALLS = Counter(
    "headrace_chain_calls", "Calls of chains, by how they ended.", ["chain", "api", "outcome"]
)
MODEL_CALLS_CACHED = Counter(
    "headrace_model_calls_cached",
    "Model calls of chains that cache them, by result.",
    ["result"],
)
READS = Counter("headrace_reads", "Cacheable reads, by where they came from.", ["result"])
CHAIN_SECONDS = Histogram(
    "headrace_chain_seconds", "Time of chain calls, from begin to end.", ["chain"], buckets=SECONDS
)
TOKENS = Counter("headrace_tokens", "Tokens that providers reported.", ["chain", "kind"])
MEDIA_PARTS = Counter(
    "headrace_media_parts", "Images, sounds and files in messages, by the part's type.", ["kind"]
)
MEDIA_REFUSED = Counter(
    "headrace_media_refused",
    "Requests refused for their images, sounds and files, by the setting.",
    ["setting"],
)
PROVIDER_CALLS = Counter(
    "headrace_provider_calls", "Attempts at model providers, by outcome.", ["outcome"]
)
PROVIDER_CONNECTIONS = Gauge(
    "headrace_provider_connections",
    "Connections to OpenAI-compatible servers, by host and state (busy or idle).",
    ["host", "state"],
)
PROVIDER_CONNECTIONS_OPENED = Counter(
    "headrace_provider_connections_opened",
    "Connections that were opened to OpenAI-compatible servers.",
    ["host"],
)
PROVIDER_POOL_EXHAUSTED = Counter(
    "headrace_provider_pool_exhausted",
    "Model calls refused because PROVIDER_MAX_CONNECTIONS were in use.",
)
