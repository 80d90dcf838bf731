"""Count the results of lookups: for Prometheus, and for all nodes together in Redis.

A count is a dictionary's entry until the next second; a request pays for no more.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import prometheus_client

from config.background import BackgroundThread
from scaling.database_clock import CLOCK
from scaling.redis_client import RedisUnavailable, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

    from scaling.response_cache.entry import Entry

EVERY_SECONDS = 1.0
# Fields are `chain|result`.
NAME = "headrace:cache:counts"
# A hash for each minute of Unix time; its fields are results.
MINUTE = "headrace:cache:minute:"
MINUTE_SECONDS = 60
MINUTE_RETENTION_SECONDS = 2 * 3600
LOOKUPS = prometheus_client.Counter(
    "headrace_cache_results", "Results of requests at the response cache.", ["chain", "result"]
)
SAVED = prometheus_client.Counter(
    "headrace_cache_saved_tokens", "Tokens that cached responses saved.", ["chain", "kind"]
)


class _HitCounters(BackgroundThread):
    name = "cache-counts"
    interval_seconds = EVERY_SECONDS

    def reset(self) -> None:
        super().reset()
        self._new: Counter[tuple[str, str]] = Counter()
        self._unflushed: Counter[tuple[str, str]] = Counter()
        self._saved: Counter[tuple[str, str]] = Counter()

    def count(self, chain: str, result: str) -> None:
        self._new[chain, result] += 1
        self.start()

    def count_hit(self, entry: Entry, result: str) -> None:
        self.count(entry.chain, result)
        self._saved[entry.chain, "prompt"] += entry.prompt_tokens
        self._saved[entry.chain, "completion"] += entry.completion_tokens

    def tick(self) -> None:
        saved, self._saved = self._saved, Counter()
        for (chain, kind), tokens in saved.items():
            SAVED.labels(chain, kind).inc(tokens)
        new, self._new = self._new, Counter()
        for (chain, result), number in new.items():
            LOOKUPS.labels(chain, result).inc(number)
        new.update(self._unflushed)
        self._unflushed.clear()
        if not new:
            return

        by_result: Counter[str] = Counter()
        for (_, result), number in new.items():
            by_result[result] += number
        minute = _minute_name(int(CLOCK.now()) // MINUTE_SECONDS)

        def write(client: Redis) -> None:
            pipeline = client.pipeline(transaction=False)
            for (chain, result), number in new.items():
                pipeline.hincrby(NAME, f"{chain}|{result}", number)
            for result, number in by_result.items():
                pipeline.hincrby(minute, result, number)
            pipeline.expire(minute, MINUTE_RETENTION_SECONDS)
            pipeline.execute()

        try:
            run(write)
        except RedisUnavailable as error:
            if not error.may_have_run:
                self._unflushed = new


_COUNTERS = _HitCounters()
count = _COUNTERS.count
count_hit = _COUNTERS.count_hit
flush = _COUNTERS.tick


def read() -> dict[str, dict[str, int]]:
    """Return the counts of all nodes: chain -> result -> count; raises RedisUnavailable."""

    def work(client: Redis) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        raw: Any = client.hgetall(NAME)
        for field, number in raw.items():
            chain, _, result = field.decode().rpartition("|")
            found.setdefault(chain, {})[result] = int(number)
        return found

    return run(work)


def read_minutes(numbers: Sequence[int]) -> list[dict[str, int]]:
    """Return all nodes' counts in each of these minutes of Unix time: result -> count.

    One round trip; a minute is empty once MINUTE_RETENTION_SECONDS have passed. Raises
    RedisUnavailable.
    """

    def work(client: Redis) -> list[dict[str, int]]:
        pipeline = client.pipeline(transaction=False)
        for number in numbers:
            pipeline.hgetall(_minute_name(number))
        return [
            {result.decode(): int(number) for result, number in raw.items()}
            for raw in pipeline.execute()
        ]

    return run(work)


def _minute_name(number: int) -> str:
    return f"{MINUTE}{number}"
