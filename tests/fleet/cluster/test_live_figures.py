"""The figures of the time between two samples."""

from __future__ import annotations

from fleet.cluster.live.figures import compare, quantile
from fleet.cluster.live.sample import ProcessSample, Sample
from fleet.cluster.live.table import draw
from fleet.cluster.status import ProcessStatus
from scaling.scrape import parse

NODE = """
# HELP headrace_request_seconds Time until an answer begins.
headrace_request_seconds_bucket{{le="0.01"}} {fast}
headrace_request_seconds_bucket{{le="0.1"}} {all}
headrace_request_seconds_bucket{{le="+Inf"}} {all}
headrace_build_info{{version="0.1.0"}} 1
headrace_replica_lag_seconds{{server="postgres2"}} 0.25
headrace_cache_results_total{{chain="faq",result="near"}} {hits}
headrace_cache_results_total{{chain="faq",result="miss"}} 10
"""
PROXY = """
haproxy_server_sessions_total{{proxy="web",server="node1"}} {sessions}
haproxy_server_current_sessions{{proxy="web",server="node1"}} 3
haproxy_server_current_queue{{proxy="web",server="node1"}} 2
"""


def process(
    name: str, kind: str, *, pid: int = 1, cpu: float = 0.0, metrics: str = ""
) -> ProcessSample:
    """Return a process's sample."""
    status = ProcessStatus(
        name=name, kind=kind, state="ready", pid=pid, address="", uptime_seconds=1, restarts=0
    )
    return ProcessSample(
        status=status,
        cpu_seconds=cpu,
        memory_bytes=200 * 1024 * 1024,
        metrics=parse(metrics, prefixes=("headrace_",)),
    )


def sample(at: float, *, node: str, pid: int = 1, cpu: float = 0.0, sessions: int = 0) -> Sample:
    """Return a sample of a small stack."""
    return Sample(
        at=at,
        url="http://127.0.0.1:8000",
        processes=[
            process("postgres1", "primary"),
            process("postgres2", "replica"),
            process("worker1", "worker", metrics="headrace_jobs_running 4\n"),
            process("node1", "node", pid=pid, cpu=cpu, metrics=node),
        ],
        proxy=parse(PROXY.format(sessions=sessions), prefixes=("haproxy_server_",)),
        waiting_jobs=7,
    )


def test_figures_are_of_the_time_between_two_samples() -> None:
    before = sample(10, node=NODE.format(fast=100, all=100, hits=0), cpu=1, sessions=1000)
    after = sample(12, node=NODE.format(fast=150, all=200, hits=30), cpu=2, sessions=1100)

    figures = compare(before, after)

    (node,) = figures.nodes
    assert (node.requests_per_second, node.in_flight, node.queued) == (50.0, 3, 2)
    assert (node.cpu_percent, node.memory_mb, node.version) == (50.0, 200, "0.1.0")
    assert (node.p50_ms, node.p95_ms) == (10.0, 91.0)
    assert [w.running_jobs for w in figures.workers] == [4]
    assert [(s.role, s.lag_seconds) for s in figures.servers] == [
        ("primary", None),
        ("replica", 0.25),
    ]
    assert figures.waiting_jobs == 7
    assert figures.cache_hit_rate == 1.0


def test_a_node_that_was_restarted_begins_again() -> None:
    before = sample(10, node=NODE.format(fast=100, all=100, hits=90), cpu=50, sessions=1000)
    after = sample(12, pid=2, node=NODE.format(fast=4, all=4, hits=0), cpu=1, sessions=10)

    figures = compare(before, after)

    (node,) = figures.nodes
    assert node.cpu_percent == 50.0
    assert node.requests_per_second == 5.0
    assert node.p50_ms == 5.0
    assert figures.cache_hit_rate == 0.0


def test_a_quantile_without_a_count_is_not_known() -> None:
    assert quantile(0.5, [(0.1, 0.0), (float("inf"), 0.0)]) is None
    assert quantile(0.99, [(0.1, 0.0), (float("inf"), 5.0)]) == 0.1


def test_the_table_has_a_line_for_each_part() -> None:
    text = NODE.format(fast=1, all=1, hits=0)

    lines = draw(compare(sample(1, node=text), sample(2, node=text)))

    assert lines[0] == "http://127.0.0.1:8000   jobs waiting: 7   cache hits: -"
    heads = [line.split()[0] for line in lines[1:] if line]
    assert heads == ["node", "node1", "worker", "worker1", "server", "postgres1", "postgres2"]
    assert "node1  ready" in "\n".join(lines)
