"""`make bench`: Headrace and its peers, with a provider and without, in one table."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import urllib.request
from dataclasses import asdict

import gevent

from loadtest import cached, fleet, jobs, overload, replicas, streams, wrk
from loadtest.provider import measures
from loadtest.servers import Headrace, headrace, langserve
from loadtest.settings import ANSWER, QUESTION
from loadtest.table import Row, print_progress, print_table

WARM_UP_SECONDS = 3
SETTLE_SECONDS = 2


def main() -> int:
    """Measure, print the table, and return 1 if a bound was missed or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="length of each run")
    parser.add_argument("--runs", type=int, default=3, help="runs of each kind; medians are shown")
    parser.add_argument("--streams", type=int, default=1000)
    parts = ["provider", "cached", "chat", "streams", "jobs", "replicas", "fleet", "overload"]
    parser.add_argument("--only", choices=parts, help="measure one part")
    parser.add_argument("--provider-part", choices=measures.PARTS, help="of the part provider")
    parser.add_argument("--provider-streams", type=int, default=5000)
    parser.add_argument("--provider-tokens-per-second", type=float, default=30.0)
    parser.add_argument("--provider-requests", type=int, default=500_000, help="of memory's mix")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wrk.require()
    rows: list[Row] = []
    if options.only in (None, "provider"):
        rows += measures.measure(
            seconds=options.seconds,
            runs=options.runs,
            streams=options.provider_streams,
            tokens_per_second=options.provider_tokens_per_second,
            memory_requests=options.provider_requests,
            only=options.provider_part,
        )
    if options.only in (None, "cached"):
        rows += cached_rows(cached.measure(seconds=options.seconds, runs=options.runs))
    if options.only in (None, "chat"):
        rows += measure_chat(seconds=options.seconds, runs=options.runs)
    if options.only in (None, "streams"):
        rows += measure_streams(count=options.streams)
    if options.only in (None, "jobs"):
        rows += measure_jobs(seconds=options.seconds, runs=options.runs)
    if options.only in (None, "replicas"):
        rows += measure_replicas(seconds=options.seconds, runs=options.runs)
    if options.only in (None, "fleet"):
        rows += fleet.rows(seconds=options.seconds, runs=options.runs)
    if options.only in (None, "overload"):
        rows += overload.rows(overload.measure())
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print_table(rows)
    return 0 if all(row.passed for row in rows) else 1


def measure_chat(*, seconds: int, runs: int) -> list[Row]:
    """Compare uncached chat at one node, key and limits on, with LangServe's invoke."""
    rows = []
    with headrace(nodes=1) as ours, langserve() as theirs:
        time.sleep(SETTLE_SECONDS)
        megabytes = max(ours.memory_bytes()) / 1e6
        rows.append(
            Row(
                measure="memory of a node after its start",
                figure=f"{megabytes:.0f} MB",
                bound="< 160 MB",
                passed=megabytes < 160,
            )
        )
        node = f"http://{ours.nodes[0]['address']}/v1/chat/completions"
        proxy = f"{ours.url}/v1/chat/completions"
        invoke = f"{theirs}/chat/invoke"
        body = json.dumps(
            {"model": "fake-chat", "messages": [{"role": "user", "content": QUESTION}]}
        )
        peer_body = json.dumps({"input": {"text": QUESTION}})
        check_answer(node, body, ours.key)
        check_answer(invoke, peer_body, "")
        for connections in (32, 128):
            loads: dict[str, list[wrk.Load]] = {"node": [], "proxy": [], "peer": []}
            for run in range(runs + 1):
                length = seconds if run else WARM_UP_SECONDS
                for name, url, text, key in (
                    ("node", node, body, ours.key),
                    ("proxy", proxy, body, ours.key),
                    ("peer", invoke, peer_body, ""),
                ):
                    load = wrk.post(
                        url, body=text, key=key, connections=connections, seconds=length
                    )
                    if run:
                        loads[name].append(load)
                    print_progress(
                        f"{name} {connections} connections: {load.per_second:.0f} requests/s"
                    )
            rows += chat_rows(connections, loads)
        check_answer(node, body, ours.key)
    return rows


def chat_rows(connections: int, loads: dict[str, list[wrk.Load]]) -> list[Row]:
    """Return the lines of one number of connections."""
    speed = {name: statistics.median(x.per_second for x in of) for name, of in loads.items()}
    worst = {name: max(x.max_ms for x in of) for name, of in loads.items()}
    p99 = {name: statistics.median(x.p99_ms for x in of) for name, of in loads.items()}
    ratio = speed["node"] / speed["peer"]
    label = f"uncached chat, {connections} connections"

    def figure(name: str) -> str:
        return f"{speed[name]:.0f}/s, p99 {p99[name]:.0f} ms, slowest {worst[name]:.0f} ms"

    return [
        Row(
            measure=f"{label}, one node",
            figure=figure("node"),
            bound="slowest < 1000 ms",
            passed=worst["node"] < 1000,
        ),
        Row(
            measure=f"{label}, one node behind HAProxy",
            figure=figure("proxy"),
            bound="slowest < 1000 ms",
            passed=worst["proxy"] < 1000,
        ),
        Row(measure=f"{label}, LangServe, one worker", figure=figure("peer")),
        Row(
            measure=f"{label}, node / LangServe",
            figure=f"{ratio:.2f}",
            bound=">= 1.0 (aim 1.5)",
            passed=ratio >= 1.0,
        ),
    ]


def cached_rows(seen: cached.Figures) -> list[Row]:
    """Return the lines of cached chat."""
    rate, constant = seen.per_second("cached"), seen.per_second("constant")
    node, peer = seen.per_second("node"), seen.per_second("langserve")
    rows = [
        Row(
            measure="cached chat through HAProxy, two nodes",
            figure=f"{rate:.0f}/s, p99 {seen.p99_ms('cached'):.0f} ms",
            bound=">= 10000/s",
            passed=rate >= 10_000,
        ),
        Row(measure="a constant answer from the same nodes", figure=f"{constant:.0f}/s"),
        Row(
            measure="cached / constant",
            figure=f"{rate / constant:.2f}",
            bound=">= 0.85",
            passed=rate / constant >= 0.85,
        ),
        Row(
            measure=f"cached chat at half that rate ({seen.per_second('half'):.0f}/s)",
            figure=f"p99 {seen.p99_ms('half'):.1f} ms",
            bound="< 10 ms",
            passed=seen.p99_ms("half") < 10,
        ),
        Row(measure="cached chat, one node", figure=f"{node:.0f}/s"),
        Row(
            measure=f"one node / LangServe on one worker ({peer:.0f}/s)",
            figure=f"{node / peer:.1f}",
            bound=">= 8",
            passed=node / peer >= 8,
        ),
    ]
    if "litellm" in seen.loads:
        proxy = seen.per_second("litellm")
        rows.append(
            Row(
                measure=f"one node / LiteLLM proxy with its Redis cache ({proxy:.0f}/s)",
                figure=f"{node / proxy:.1f}",
                bound=">= 30",
                passed=node / proxy >= 30,
            )
        )
    store = seen.per_second("store")
    return [
        *rows,
        Row(
            measure="hits from Redis, near cache off, one node",
            figure=f"{store:.0f}/s",
            bound=">= 2000/s",
            passed=store >= 2000,
        ),
        Row(
            measure=f"{cached.PROMPTS} prompts by Zipf, {cached.MISSES:.0%} new, model of 200 ms",
            figure=f"{seen.per_second('zipf'):.0f}/s, p99 {seen.p99_ms('zipf'):.0f} ms,"
            f" {seen.hit_rate('zipf'):.0%} hits",
        ),
    ]


def measure_streams(*, count: int) -> list[Row]:
    """Open many streams on two nodes, and measure how late their tokens come."""
    with headrace(nodes=2) as ours:
        url = f"{ours.url}/v1/chat/completions"
        # The first streams make what later ones share.
        streams.measure(url, key=ours.key, streams=50)
        before = sum(ours.memory_bytes())
        peak = gevent.spawn(_memory_when_open, ours)
        result, _ = streams.measure(url, key=ours.key, streams=count)
        kilobytes = (peak.get(timeout=60) - before) / count / 1000
    delays = sorted(result.delays_ms)
    p99 = delays[int(len(delays) * 0.99)] if delays else float("inf")
    lost = len(result.lost)
    for reason in sorted(set(result.lost))[:5]:
        print_progress(f"lost stream: {reason}")
    label = f"{count} streams on two nodes at 2 tokens/s"
    return [
        Row(
            measure=f"{label}: added delay of a token",
            figure=f"p50 {statistics.median(delays):.1f} ms, p99 {p99:.1f} ms, "
            f"slowest {delays[-1]:.0f} ms",
            bound="p99 < 50 ms",
            passed=p99 < 50,
        ),
        Row(measure=f"{label}: lost", figure=str(lost), bound="0", passed=lost == 0),
        Row(
            measure=f"{label}: memory a stream",
            figure=f"{kilobytes:.0f} kB",
            bound="< 60 kB",
            passed=kilobytes < 60,
        ),
    ]


def measure_replicas(*, seconds: int, runs: int) -> list[Row]:
    """Measure reads of a conversation's history at one node, by the number of replicas."""
    seen = replicas.measure(seconds=seconds, runs=runs)
    rows = [
        Row(
            measure="routing of a query, in the process",
            figure=f"{seen.routing_us:.1f} us",
            bound="< 10 us",
            passed=seen.routing_us < 10,
        )
    ]
    for count, reads in seen.reads.items():
        rows.append(
            Row(
                measure=f"history of a conversation, one node, {count} replicas",
                figure=f"{reads.per_second:.0f}/s, p99 {reads.p99_ms:.0f} ms,"
                f" primary {reads.primary_us:.0f} us CPU a read",
            )
        )
    ratio = seen.pooled_per_second / seen.unpooled_per_second
    rows.append(
        Row(
            measure="the same, pool / a new connection for each request",
            figure=f"{ratio:.2f} ({seen.unpooled_per_second:.0f}/s without a pool)",
            bound="> 1",
            passed=ratio > 1,
        )
    )
    return rows


def measure_jobs(*, seconds: int, runs: int) -> list[Row]:
    """Measure background jobs on two nodes and one worker."""
    seen = jobs.measure(seconds=seconds, runs=runs)
    return [
        Row(
            measure="durable submits through HAProxy, row committed",
            figure=f"{seen.submits_per_second:.0f}/s",
            bound=">= 700/s",
            passed=seen.submits_per_second >= 700,
        ),
        Row(
            measure=f"submits at {jobs.PACED_PER_SECOND}/s",
            figure=f"p99 {seen.paced_p99_ms:.0f} ms",
            bound="< 100 ms",
            passed=seen.paced_p99_ms < 100,
        ),
        Row(
            measure=f"submits at {jobs.PACED_PER_SECOND}/s while the jobs run too",
            figure=f"p99 {seen.paced_busy_p99_ms:.0f} ms",
            bound="< 150 ms (aim 100)",
            passed=seen.paced_busy_p99_ms < 150,
        ),
        Row(
            measure=f"{jobs.TRIVIAL_JOBS} trivial jobs, submit to end, one worker",
            figure=f"{seen.trivial_per_second:.0f}/s",
            bound=">= 300/s",
            passed=seen.trivial_per_second >= 300,
        ),
        Row(
            measure="wait of a job in an idle queue",
            figure=f"p50 {seen.idle_wait_p50_ms:.0f} ms",
            bound="< 30 ms",
            passed=seen.idle_wait_p50_ms < 30,
        ),
        Row(
            measure=f"{jobs.WAITING_JOBS} jobs that wait 2 s each, one worker",
            figure=f"{seen.waiting_seconds:.1f} s",
            bound="<= 10 s",
            passed=seen.waiting_seconds <= 10,
        ),
    ]


def _memory_when_open(ours: Headrace) -> int:
    gevent.sleep(streams.OPENING_SECONDS + 3)
    # `cluster status` is another process; reading it must not hold the readers up.
    pool = gevent.get_hub().threadpool
    total: int = sum(pool.apply(ours.memory_bytes))
    return total


def check_answer(url: str, body: str, key: str) -> None:
    """Stop the benchmark unless the answer holds the model's words."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, body.encode(), headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        text = response.read().decode()
    if ANSWER not in text:
        raise SystemExit(f"{url} answered wrongly: {text[:500]}")


if __name__ == "__main__":
    sys.exit(main())
