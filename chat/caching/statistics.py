"""The cache's entries and hit rates, of all nodes together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scaling.database_clock import CLOCK
from scaling.redis_client import RedisUnavailable
from scaling.response_cache import hit_counters
from scaling.response_cache.results import HITS, CacheResult
from scaling.response_cache.store import NotSupported, StoreUnavailable, get_store

# Entries beyond this number, or this time, are not counted.
MAX_KEYS = 200_000
COUNTING_SECONDS = 2.0
MINUTES = 60


@dataclass(kw_only=True)
class ChainStatistics:
    """One chain's figures; `counts` by result, since they were first counted."""

    chain: str
    entries: int = 0
    bytes: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def hits(self) -> int:
        """Answers that called no chain."""
        return _hits(self.counts)

    @property
    def hit_rate(self) -> float | None:
        """Return the share of hits among the lookups; None without any."""
        lookups = self.hits + self.counts.get(CacheResult.MISS, 0)
        return self.hits / lookups if lookups else None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {**asdict(self), "hits": self.hits, "hit_rate": self.hit_rate}


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """All chains' figures; `problems` has a sentence for each part that could not be read.

    `is_cut`: there were more entries than could be counted in COUNTING_SECONDS, or than MAX_KEYS.
    """

    chains: list[ChainStatistics]
    is_cut: bool
    problems: list[str]
    has_counts: bool
    has_entries: bool


@dataclass(frozen=True, kw_only=True)
class Minute:
    """Hits and misses in the minute that begins at this Unix time."""

    start: int
    hits: int
    misses: int

    @property
    def total(self) -> int:
        """Hits and misses."""
        return self.hits + self.misses


def read_statistics() -> Statistics:
    """Count the entries and read the counts, within COUNTING_SECONDS or so. Never raises."""
    found: dict[str, ChainStatistics] = {}
    problems = []
    has_counts = has_entries = True
    try:
        for chain, by_result in hit_counters.read().items():
            found[chain] = ChainStatistics(chain=chain, counts=by_result)
    except RedisUnavailable as error:
        has_counts = False
        problems.append(f"The counts cannot be read: {error}.")
    is_cut = False
    try:
        is_cut = _count_entries(found)
    except NotSupported:
        has_entries = False
        problems.append("This store cannot list its entries.")
    except StoreUnavailable as error:
        has_entries = False
        problems.append(f"The entries cannot be counted: {error}.")
    return Statistics(
        chains=sorted(found.values(), key=lambda chain: (-chain.hits, chain.chain)),
        is_cut=is_cut,
        problems=problems,
        has_counts=has_counts,
        has_entries=has_entries,
    )


def read_hour(*, now: float | None = None) -> list[Minute]:
    """Return the last MINUTES, this one being the last; raises RedisUnavailable."""
    last = int(CLOCK.now() if now is None else now) // hit_counters.MINUTE_SECONDS
    numbers = range(last - MINUTES + 1, last + 1)
    return [
        Minute(
            start=number * hit_counters.MINUTE_SECONDS,
            hits=_hits(by_result),
            misses=by_result.get(CacheResult.MISS, 0),
        )
        for number, by_result in zip(numbers, hit_counters.read_minutes(numbers), strict=True)
    ]


def total(chains: Sequence[ChainStatistics]) -> ChainStatistics:
    """Return the sum of all chains."""
    result: Counter[str] = Counter()
    for chain in chains:
        result.update(chain.counts)
    return ChainStatistics(
        chain="all",
        entries=sum(chain.entries for chain in chains),
        bytes=sum(chain.bytes for chain in chains),
        counts=dict(result),
    )


def _count_entries(found: dict[str, ChainStatistics]) -> bool:
    """Add the store's entries to `found`; return whether some were left out.

    Raises NotSupported or StoreUnavailable.
    """
    until = time.monotonic() + COUNTING_SECONDS
    seen = 0
    for batch in get_store().count():
        for key, size in batch:
            # A lock of single flight is no entry, and a cached read is no chain's.
            if key.endswith(":lock") or key.startswith("/"):
                continue
            chain = key.partition(":")[0]
            entry = found.setdefault(chain, ChainStatistics(chain=chain))
            entry.entries += 1
            entry.bytes += size
            seen += 1
        if seen >= MAX_KEYS or time.monotonic() >= until:
            return True
    return False


def _hits(by_result: dict[str, int]) -> int:
    return sum(by_result.get(result, 0) for result in HITS)
