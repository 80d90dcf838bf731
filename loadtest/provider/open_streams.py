"""Many open streams of a provider of 300 ms and 30 tokens a second, on two nodes behind HAProxy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from loadtest.provider.stack import (
    NEVER_REFUSES,
    chat_body,
    headrace_with,
    provider,
    question,
)
from loadtest.servers import ROOT, Headrace
from loadtest.table import Row, print_progress

FIRST_TOKEN_SECONDS = 0.3
TOKENS_PER_SECOND = 30.0
# What a stream costs at its beginning is no delay of those that are open.
OPENED_PER_SECOND = 100
ALL_OPEN_SECONDS = 20.0
WARM_UP_STREAMS = 50
# All streams are one key's here; a node's default bounds are for many callers.
ONE_ACCOUNT = {
    "WEB_CONNECTIONS": "8000",
    **NEVER_REFUSES,
    "MAX_STREAMS_PER_KEY": "0",
    "MAX_STREAMS_PER_ACCOUNT": "0",
    "MAX_STREAMS_PER_NODE": "7000",
    "MAX_REQUESTS_PER_ACCOUNT": "0",
    "PROVIDER_MAX_CONNECTIONS": "8000",
}
MAX_P99_MS = 50
MAX_KILOBYTES = 45


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was seen of streams; `kilobytes` is memory of the nodes a stream."""

    complete: int
    lost: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    seconds: float
    kilobytes: float = 0.0


def measure(*, count: int, tokens_per_second: float = TOKENS_PER_SECOND) -> list[Row]:
    """Open so many streams, and return how late their tokens are and what they take."""
    opening_seconds = count / OPENED_PER_SECOND
    tokens = max(2, int((opening_seconds + ALL_OPEN_SECONDS) * tokens_per_second))
    with (
        provider(
            first_token_seconds=FIRST_TOKEN_SECONDS,
            tokens_per_second=tokens_per_second,
            tokens=tokens,
        ) as mock,
        headrace_with(mock, nodes=2, env=ONE_ACCOUNT) as ours,
    ):
        # The first streams make what later ones share.
        _finish(_start(ours, WARM_UP_STREAMS, tokens))
        before = sum(ours.memory_bytes())
        reader = _start(ours, count, tokens)
        time.sleep(opening_seconds + ALL_OPEN_SECONDS / 2)
        used = sum(ours.memory_bytes()) - before
        seen = _finish(reader)
    print_progress(f"lost, by status: {seen.pop('lost_statuses')}")
    kilobytes = used / count / 1000
    print_progress(f"{count} streams: {seen}")
    return rows_of(count, tokens_per_second, Figures(**{**seen, "kilobytes": kilobytes}))


def rows_of(count: int, tokens_per_second: float, seen: Figures) -> list[Row]:
    """Return the lines of one number of streams."""
    label = f"{count} streams on two nodes, 300 ms and {tokens_per_second:g} tokens/s"
    p99 = float("inf") if seen.p99_ms is None else seen.p99_ms
    return [
        Row(
            measure=f"{label}: added delay of a token",
            figure=f"p50 {seen.p50_ms or 0:.1f} ms, p99 {p99:.1f} ms,"
            f" slowest {seen.max_ms or 0:.0f} ms",
            bound=f"p99 < {MAX_P99_MS} ms",
            passed=p99 < MAX_P99_MS,
        ),
        Row(measure=f"{label}: lost", figure=str(seen.lost), bound="0", passed=seen.lost == 0),
        Row(
            measure=f"{label}: memory a stream",
            figure=f"{seen.kilobytes:.0f} kB",
            bound=f"< {MAX_KILOBYTES} kB",
            passed=seen.kilobytes < MAX_KILOBYTES,
        ),
    ]


def _start(ours: Headrace, count: int, tokens: int) -> subprocess.Popen[str]:
    body = json.dumps(chat_body(question(), True))
    command = [sys.executable, "-m", "loadtest.provider.stream_reader"]
    command += [f"{ours.url}/v1/chat/completions", body, str(count)]
    command += [str(count / OPENED_PER_SECOND), str(tokens)]
    environment = {**os.environ, "KEY": ours.key}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def _finish(reader: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = reader.communicate(timeout=900)
    found: dict[str, Any] = json.loads(output)
    return found
