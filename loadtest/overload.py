"""Three times as many requests as two nodes can answer, and what comes after that."""

from __future__ import annotations

import time
from dataclasses import dataclass

import gevent

from loadtest import paced, wrk
from loadtest.servers import Headrace, headrace
from loadtest.steady import BODY, CHAT, SteadyLoad, percentile
from loadtest.table import Row

SECONDS = 30
SEARCH_SECONDS = 6
AFTER_SECONDS = 5
FACTOR = 3
# Of what wrk gets from busy connections, and then of the most.
SEARCH = (0.8, 0.85, 0.9, 1.0)
SLOW_MS = 1000


@dataclass(frozen=True, kw_only=True)
class Overload:
    """Rates in good answers a second, times in milliseconds."""

    capacity_per_second: float
    # The same while the client and HAProxy have as much to do as during the overload.
    capacity_with_refusals_per_second: float
    offered_per_second: float
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
    share_with_refusals = seen.good_per_second / seen.capacity_with_refusals_per_second
    label = f"{FACTOR} times the capacity for {SECONDS} s"
    return [
        Row(
            measure=f"{label} ({seen.offered_per_second:.0f}/s offered): good answers",
            figure=f"{seen.good_per_second:.0f}/s, {share:.0%} of {seen.capacity_per_second:.0f}/s",
        ),
        Row(
            measure=f"{label}: the same, of the capacity with as many that HAProxy refuses",
            figure=f"{share_with_refusals:.0%} of {seen.capacity_with_refusals_per_second:.0f}/s",
            bound="> 90%",
            passed=share_with_refusals > 0.9,
        ),
        Row(
            measure=f"{label}: time of good answers",
            figure=f"p50 {seen.good_p50_ms:.0f} ms, p99 {seen.good_p99_ms:.0f} ms",
            bound="p99 < 1000 ms",
            passed=seen.good_p99_ms < 1000,
        ),
        Row(
            measure=f"{label}: time of {seen.refused} refusals with Retry-After",
            figure=f"p50 {seen.refused_p50_ms:.1f} ms, p99 {seen.refused_p99_ms:.0f} ms",
            bound="p99 < 100 ms",
            passed=seen.refused_p99_ms < 100,
        ),
        Row(
            measure=f"{label}: all other answers",
            figure=f"{seen.lost}",
            bound="0",
            passed=seen.lost == 0,
        ),
        Row(
            measure=f"{label}: until nothing is slow or refused, at a third of the capacity",
            figure=f"{seen.recovery_seconds:.1f} s",
            bound="< 2 s",
            passed=seen.recovery_seconds < 2,
        ),
    ]


def measure() -> Overload:
    """Find the most that can be answered, send three times as much, and then a third."""
    with headrace(nodes=2) as ours:
        capacity = find_capacity(ours)
        offered = FACTOR * capacity
        extra = find_capacity_with_refusals(ours, near=capacity, offered=offered)
        overload = paced.send(ours, per_second=offered, seconds=SECONDS)
        ended = time.monotonic()
        with SteadyLoad(ours, per_second=capacity / FACTOR, keyed_share=0) as load:
            gevent.sleep(AFTER_SECONDS)
    answers, after = overload.answers, load.answers
    trouble_at = after.last_trouble_at(slow_ms=SLOW_MS)
    return Overload(
        capacity_per_second=capacity,
        capacity_with_refusals_per_second=extra,
        offered_per_second=overload.offered_per_second,
        good_per_second=overload.good_per_second,
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
    rates = [share * busy for share in SEARCH]
    return max(_good(ours, per_second=rate) for rate in rates)


def find_capacity_with_refusals(ours: Headrace, *, near: float, offered: float) -> float:
    """Return the same while the client sends `offered` a second, and HAProxy refuses the rest.

    The nodes have what the client and HAProxy leave of the processors, which is less at three times
    the requests; on a machine of their own those would take nothing from them.
    """
    rates = [share * near for share in SEARCH]
    return max(_good(ours, per_second=rate, extra=offered - rate) for rate in rates)


def _good(ours: Headrace, *, per_second: float, extra: float = 0.0) -> float:
    seen = paced.send(ours, per_second=per_second, extra=extra, seconds=SEARCH_SECONDS)
    return seen.good_per_second
