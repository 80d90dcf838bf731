"""Three times as many requests as two nodes can answer, and what comes after that."""

from __future__ import annotations

import time
from dataclasses import dataclass

import gevent

from loadtest import wrk
from loadtest.servers import Headrace, headrace
from loadtest.steady import BODY, CHAT, SteadyLoad, percentile
from loadtest.table import Row

SECONDS = 30
SEARCH_SECONDS = 6
AFTER_SECONDS = 5
FACTOR = 3
# Of what wrk gets from busy connections, which come to little less than the most.
SEARCH = (0.8, 0.9, 1.0)
SLOW_MS = 1000


@dataclass(frozen=True, kw_only=True)
class Overload:
    """Rates in good answers a second, times in milliseconds."""

    capacity_per_second: float
    asked_per_second: float
    good_per_second: float
    good_p50_ms: float
    good_p99_ms: float
    refused: int
    refused_p50_ms: float
    refused_p99_ms: float
    lost: int
    # From the end of the overload to the last answer that was slow or refused.
    recovery_seconds: float


def rows(seen: Overload) -> list[Row]:
    """Return the lines of three times too many requests."""
    share = seen.good_per_second / seen.capacity_per_second
    label = f"{FACTOR} times the capacity for {SECONDS} s"
    return [
        Row(
            measure=f"{label} ({seen.asked_per_second:.0f}/s asked): good answers",
            figure=f"{seen.good_per_second:.0f}/s, {share:.0%} of {seen.capacity_per_second:.0f}/s",
            bound="> 90%",
            is_kept=share > 0.9,
        ),
        Row(
            measure=f"{label}: time of good answers",
            figure=f"p50 {seen.good_p50_ms:.0f} ms, p99 {seen.good_p99_ms:.0f} ms",
            bound="p99 < 1000 ms",
            is_kept=seen.good_p99_ms < 1000,
        ),
        Row(
            measure=f"{label}: time of {seen.refused} refusals with Retry-After",
            figure=f"p50 {seen.refused_p50_ms:.1f} ms, p99 {seen.refused_p99_ms:.0f} ms",
            bound="p99 < 100 ms",
            is_kept=seen.refused_p99_ms < 100,
        ),
        Row(
            measure=f"{label}: all other answers",
            figure=f"{seen.lost}",
            bound="0",
            is_kept=seen.lost == 0,
        ),
        Row(
            measure=f"{label}: until nothing is slow or refused, at a third of the capacity",
            figure=f"{seen.recovery_seconds:.1f} s",
            bound="< 2 s",
            is_kept=seen.recovery_seconds < 2,
        ),
    ]


def measure() -> Overload:
    """Find the most that can be answered, send three times as much, and then a third."""
    with headrace(nodes=2) as ours:
        capacity = find_capacity(ours)
        with SteadyLoad(ours, per_second=FACTOR * capacity, keyed_share=0) as load:
            answers, began = load.answers, time.monotonic()
            gevent.sleep(SECONDS)
            asked, ended = answers.asked, time.monotonic()
            after = load.change(per_second=capacity / FACTOR)
            gevent.sleep(AFTER_SECONDS)
    seconds = ended - began
    trouble_at = after.last_trouble_at(slow_ms=SLOW_MS)
    return Overload(
        capacity_per_second=capacity,
        asked_per_second=asked / seconds,
        good_per_second=answers.good_between(began, ended) / seconds,
        good_p50_ms=percentile(answers.good_ms, 0.5),
        good_p99_ms=percentile(answers.good_ms, 0.99),
        refused=len(answers.refused_ms),
        refused_p50_ms=percentile(answers.refused_ms, 0.5),
        refused_p99_ms=percentile(answers.refused_ms, 0.99),
        lost=answers.lost.total() + after.lost.total(),
        recovery_seconds=0.0 if trouble_at is None else trouble_at - ended,
    )


def find_capacity(ours: Headrace) -> float:
    """Return the most good answers a second, of some steady loads by the same client."""
    url = f"{ours.url}{CHAT}"
    busy = [
        wrk.post(url, body=BODY, key=ours.key, connections=64, seconds=4).per_second
        for _ in range(2)
    ][1]
    rates = []
    for share in SEARCH:
        with SteadyLoad(ours, per_second=share * busy, keyed_share=0) as load:
            gevent.sleep(1)
            began = time.monotonic()
            gevent.sleep(SEARCH_SECONDS)
            rates.append(load.answers.good_between(began, time.monotonic()) / SEARCH_SECONDS)
    return max(rates)
