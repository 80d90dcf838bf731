"""Measure background jobs: submissions, trivial jobs end to end, and many that wait at once."""

from __future__ import annotations

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
from urllib3 import PoolManager

from loadtest import wrk
from loadtest.servers import Headrace, headrace

SUBMIT_CONNECTIONS = 32
PACED_PER_SECOND = 300
TRIVIAL_JOBS = 3000
WAITING_JOBS = 500
IDLE_JOBS = 50
MAX_WAIT_SECONDS = 120
# Such jobs are stored and not run.
FAR = "2100-01-01T00:00:00Z"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The results of one run; times in seconds or milliseconds as named."""

    submits_per_second: float
    paced_p99_ms: float
    paced_busy_p99_ms: float
    trivial_per_second: float
    idle_wait_p50_ms: float
    waiting_seconds: float


def measure(*, seconds: int, runs: int) -> Figures:
    """Return the medians of all runs on one stack of two nodes and one worker."""
    found: list[Figures] = []
    with headrace(nodes=2, workers=1) as ours:
        _run_jobs(ours, "trivial", 20)
        for _ in range(runs):
            found.append(_measure_once(ours, seconds))
    names = Figures.__dataclass_fields__
    return Figures(**{n: statistics.median(getattr(run, n) for run in found) for n in names})


def _measure_once(ours: Headrace, seconds: int) -> Figures:
    url = f"{ours.url}/v1/jobs"
    idle = _idle_wait_ms(ours)
    later = json.dumps({"chain": "trivial", "input": "x", "run_at": FAR})
    before = _count(ours)
    load = wrk.post(url, body=later, key=ours.key, connections=SUBMIT_CONNECTIONS, seconds=seconds)
    stored = _count(ours) - before
    # wrk stops counting in the middle of its last requests.
    if not load.requests <= stored <= load.requests + SUBMIT_CONNECTIONS:
        raise SystemExit(f"{load.requests} jobs were accepted, {stored} are stored")
    paced = _paced_p99_ms(ours, seconds, run_at=FAR)
    paced_busy = _paced_p99_ms(ours, seconds)
    trivial = TRIVIAL_JOBS / _run_jobs(ours, "trivial", TRIVIAL_JOBS)
    waiting = _run_jobs(ours, "two-seconds", WAITING_JOBS)
    return Figures(
        submits_per_second=load.per_second,
        paced_p99_ms=paced,
        paced_busy_p99_ms=paced_busy,
        trivial_per_second=trivial,
        idle_wait_p50_ms=idle,
        waiting_seconds=waiting,
    )


def _paced_p99_ms(ours: Headrace, seconds: int, **more: str) -> float:
    """Submit at a steady pace; return the p99 of the answers."""
    pool = PoolManager(maxsize=64)
    taken: list[float] = []

    def post() -> None:
        started = time.monotonic()
        _post(pool, ours, "trivial", **more)
        taken.append((time.monotonic() - started) * 1000)

    posts = []
    started = time.monotonic()
    with ThreadPoolExecutor(64) as threads:
        for number in range(PACED_PER_SECOND * seconds):
            time.sleep(max(0.0, started + number / PACED_PER_SECOND - time.monotonic()))
            posts.append(threads.submit(post))
        for done in posts:
            done.result()
    _wait_for_all(ours)
    return sorted(taken)[int(len(taken) * 0.99)]


def _idle_wait_ms(ours: Headrace) -> float:
    """Return the median time from a row's commit to its attempt, one job at a time."""
    pool = PoolManager(maxsize=1)
    since = _now(ours)
    for _ in range(IDLE_JOBS):
        _post(pool, ours, "trivial")
        time.sleep(0.1)
    _wait_for_all(ours)
    rows = _query(
        ours,
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY"
        " extract(epoch FROM a.started_at - j.created_at) * 1000)"
        " FROM jobs_job j JOIN jobs_attempt a ON a.job_id = j.id WHERE a.started_at >= %s",
        since,
    )
    return float(rows[0][0])


def _run_jobs(ours: Headrace, chain: str, count: int) -> float:
    """Submit this many jobs at once; return the seconds until the last has ended well."""
    pool = PoolManager(maxsize=SUBMIT_CONNECTIONS)
    since = _now(ours)
    started = time.monotonic()
    with ThreadPoolExecutor(SUBMIT_CONNECTIONS) as threads:
        for done in [threads.submit(_post, pool, ours, chain) for _ in range(count)]:
            done.result()
    _wait_for_all(ours)
    took = time.monotonic() - started
    rows = _query(
        ours,
        "SELECT count(*) FROM jobs_job j JOIN chat_chain c ON c.id = j.chain_id"
        " WHERE c.slug = %s AND status = 'succeeded' AND output = %s::jsonb"
        " AND j.finished_at >= %s",
        chain,
        json.dumps("x"),
        since,
    )
    if rows[0][0] < count:
        raise SystemExit(f"only {rows[0][0]} of {count} jobs of {chain} ended well")
    return took


def _wait_for_all(ours: Headrace) -> None:
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    query = (
        "SELECT count(*) FROM jobs_job WHERE status = 'running' OR (status = 'queued' AND is_due)"
    )
    while _query(ours, query)[0][0]:
        if time.monotonic() > deadline:
            raise SystemExit("jobs are stuck")
        time.sleep(0.05)


def _post(pool: PoolManager, ours: Headrace, chain: str, **more: str) -> None:
    response = pool.request(
        "POST",
        f"{ours.url}/v1/jobs",
        json={"chain": chain, "input": "x", **more},
        headers={"Authorization": f"Bearer {ours.key}"},
        timeout=30.0,
        retries=False,
    )
    if response.status != 202:
        raise SystemExit(f"a job was not accepted: {response.status} {response.data[:300]!r}")


def _now(ours: Headrace) -> Any:
    return _query(ours, "SELECT now()")[0][0]


def _count(ours: Headrace) -> int:
    return int(_query(ours, "SELECT count(*) FROM jobs_job")[0][0])


def _query(ours: Headrace, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    url = (ours.state_dir / "run/database.url").read_text().strip()
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql, params)
        return cursor.fetchall() if cursor.description else []
