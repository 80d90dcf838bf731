"""What a server adds to its provider's time, at half of the load that it can take."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from urllib3 import PoolManager

from loadtest import wrk
from loadtest.provider.stack import (
    NEVER_REFUSES,
    Target,
    headrace_with,
    langserve_with,
    litellm_with,
    node_of,
    provider,
    proxy_of,
    question,
)
from loadtest.settings import ANSWER
from loadtest.steady import percentile
from loadtest.table import Row, print_progress

PROVIDER_SECONDS = 0.1
THREADS = 128
CAPACITY_CONNECTIONS = 64
# The mock ends its answer with the seconds that it took.
TOOK = re.compile(re.escape(ANSWER) + r" (\d+\.\d+)")


def measure(*, seconds: int, runs: int) -> list[Row]:
    """Return a line for each server."""
    taken: dict[str, list[float]] = {}
    half: dict[str, float] = {}
    with ExitStack() as started:
        mock = started.enter_context(provider(first_token_seconds=PROVIDER_SECONDS))
        ours = started.enter_context(headrace_with(mock, env=NEVER_REFUSES))
        targets = {
            "node": node_of(ours),
            "HAProxy and node": proxy_of(ours),
            "LangServe": started.enter_context(langserve_with(mock)),
            "LiteLLM": started.enter_context(litellm_with(mock)),
        }
        for name, target in targets.items():
            half[name] = _capacity(target, seconds) / 2
            taken[name] = []
            for _ in range(runs):
                taken[name] += _paced(target, half[name], seconds)
            print_progress(f"{name}: {len(taken[name])} answers at {half[name]:.0f}/s")
    return rows_of(half, taken)


def rows_of(half: Mapping[str, float], taken: Mapping[str, list[float]]) -> list[Row]:
    """Return a line for each server, of its milliseconds without the provider's."""
    return [
        Row(
            measure=f"{name} at half its load ({half[name]:.0f}/s): answer time less provider's",
            figure=f"p50 {percentile(ms, 0.5):.1f} ms, p99 {percentile(ms, 0.99):.1f} ms",
        )
        for name, ms in taken.items()
    ]


def _capacity(target: Target, seconds: int) -> float:
    load = wrk.post(
        target.url,
        body=json.dumps(target.body(question(), False)),
        key=target.key,
        connections=CAPACITY_CONNECTIONS,
        seconds=seconds,
        expect=ANSWER,
    )
    return load.per_second


def _paced(target: Target, per_second: float, seconds: int) -> list[float]:
    """Send at random moments, and return each answer's milliseconds less its provider's."""
    pool = PoolManager(maxsize=THREADS)

    def send() -> float:
        began = time.perf_counter()
        answer = pool.request(
            "POST",
            target.url,
            json=target.body(question(), False),
            headers={"Authorization": f"Bearer {target.key}"},
            timeout=30.0,
            retries=False,
        )
        took = time.perf_counter() - began
        found = TOOK.search(answer.data.decode())
        if answer.status != 200 or found is None:
            raise RuntimeError(f"{target.url}: {answer.status} {answer.data[:200]!r}")
        return (took - float(found[1])) * 1000

    with ThreadPoolExecutor(THREADS) as threads:
        sent = []
        due = time.monotonic()
        end = due + seconds
        while due < end:
            sent.append(threads.submit(send))
            due += random.expovariate(per_second)
            time.sleep(max(0.0, due - time.monotonic()))
        return [one.result() for one in sent]
