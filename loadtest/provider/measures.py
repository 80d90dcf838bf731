"""All measures with a provider, in one table."""

from __future__ import annotations

from loadtest.provider import compare, memory, open_streams, overhead, prompts, stored, wrong_keys
from loadtest.table import Row

PARTS = ("compare", "prompts", "wrong_keys", "overhead", "open_streams", "stored", "memory")


def measure(
    *,
    seconds: int,
    runs: int,
    streams: int,
    tokens_per_second: float,
    memory_requests: int,
    only: str | None = None,
) -> list[Row]:
    """Return the rows of all parts, or of one."""
    rows: list[Row] = []
    if only in (None, "compare"):
        rows += compare.measure(seconds=seconds, runs=runs)
    if only in (None, "prompts"):
        rows += prompts.measure(seconds=seconds, runs=runs)
    if only in (None, "wrong_keys"):
        rows += wrong_keys.measure(seconds=seconds, runs=runs)
    if only in (None, "overhead"):
        rows += overhead.measure(seconds=seconds, runs=runs)
    if only in (None, "open_streams"):
        rows += open_streams.measure(count=streams, tokens_per_second=tokens_per_second)
    if only in (None, "stored"):
        rows += stored.measure(seconds=seconds, runs=runs)
    if only in (None, "memory"):
        rows += memory.measure(requests=memory_requests)
    return rows
