"""Measurements, on the running stack."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest
from django.test import override_settings

from fleet.autoscale.actuators.embedded import Embedded
from fleet.autoscale.errors import ActuatorError, MeasureError
from fleet.autoscale.lease import KEY
from fleet.autoscale.policies import MEASURES
from fleet.autoscale.sources import latency, proxy_counts
from fleet.autoscale.sources.embedded import EmbeddedSource
from fleet.autoscale.sources.http import ScrapedSource
from scaling import redis_client
from scaling.scrape import parse
from tests.stack_plugin import BASE_DIR, EmbeddedStack
from tests.support.calls import chat_body, run_manage

BUCKETS = """
# TYPE headrace_chain_seconds histogram
headrace_chain_seconds_bucket{chain="a",le="0.1"} 5.0
headrace_chain_seconds_bucket{chain="a",le="1.0"} 10.0
headrace_chain_seconds_bucket{chain="a",le="+Inf"} 10.0
headrace_chain_seconds_count{chain="a"} 10.0
headrace_chain_seconds_bucket{chain="b",le="0.1"} 5.0
headrace_chain_seconds_bucket{chain="b",le="1.0"} 9.0
headrace_chain_seconds_bucket{chain="b",le="+Inf"} 10.0
"""


@pytest.fixture(autouse=True)
def no_lease() -> Iterator[None]:
    redis_client.run(lambda client: client.delete(KEY))
    yield
    redis_client.run(lambda client: client.delete(KEY))


def test_the_stack_has_nodes_and_workers(stack: EmbeddedStack) -> None:
    kinds = [part["kind"] for part in stack.status()["parts"]]
    assert Embedded().sizes() == {"web": kinds.count("node"), "workers": kinds.count("worker")}


@pytest.mark.django_db
def test_everything_is_measured(stack: EmbeddedStack, http: httpx.Client) -> None:
    sizes = Embedded().sizes()
    source = EmbeddedSource()
    started = time.monotonic()
    first = source.measure(sizes)
    assert first.problems == ()
    # Rates need a second look.
    assert "requests_per_minute" not in first.values["web"]
    for _ in range(20):
        answer = http.post("/v1/chat/completions", json=chat_body("echo", uuid.uuid4().hex))
        assert answer.status_code == 200, answer.text
    found = source.measure(sizes)
    minutes = (time.monotonic() - started) / 60
    assert found.problems == ()
    for fleet, names in MEASURES.items():
        assert found.values[fleet].keys() == names
    web = found.values["web"]
    # The health checks of other tests' commands may come on top.
    total = web["requests_per_minute"] * sizes["web"] * minutes
    assert 19 <= total <= 40
    assert 0 < web["cpu_percent"] < 150
    assert 30 < web["memory_mb"] < 2000
    assert 0 < web["latency_p95_ms"] < 20_000
    assert web["queue_ms"] == 0
    assert found.values["workers"]["waiting_jobs"] == 0


@pytest.mark.django_db
def test_without_haproxy_the_rest_is_measured(stack: EmbeddedStack) -> None:
    source = EmbeddedSource()
    with override_settings(AUTOSCALE_HAPROXY_URL="http://127.0.0.1:9"):
        source.measure({"web": 2, "workers": 1})
        found = source.measure({"web": 2, "workers": 1})
    assert len(found.problems) == 1
    assert "HAProxy's statistics at http://127.0.0.1:9 cannot be read" in found.problems[0]
    assert "requests_per_minute" not in found.values["web"]
    assert "cpu_percent" in found.values["web"]


def test_a_statistics_page_of_another_kind_is_refused() -> None:
    with pytest.raises(MeasureError, match="have no backend web"):
        proxy_counts.parse("<html>")
    with pytest.raises(MeasureError, match="no number in req_tot"):
        proxy_counts.parse("# pxname,svname,qcur,scur\nweb,BACKEND,0,0\n")


def test_waiting_requests_are_counted_at_the_backend_and_its_servers() -> None:
    counts = proxy_counts.parse(
        "# pxname,svname,qcur,scur,req_tot\npublic,FRONTEND,,9,9\n"
        "web,node1,1,2,\nweb,BACKEND,3,4,5\n"
    )
    assert (counts.queued, counts.sessions, counts.requests) == (4, 4, 5)


def test_a_quantile_is_read_between_the_bounds_of_a_bucket() -> None:
    buckets = latency.buckets(parse(BUCKETS, prefixes=(latency.METRIC,)))
    assert buckets == {0.1: 10.0, 1.0: 19.0, float("inf"): 20.0}
    assert latency.quantile(0.5, buckets) == pytest.approx(0.1)
    assert latency.quantile(0.95, buckets) == pytest.approx(1.0)
    # Of what is beyond the last bound only that is known.
    assert latency.quantile(0.99, buckets) == 1.0
    assert latency.quantile(0.95, {}) == 0.0


def test_only_what_came_since_counts() -> None:
    before, after = {0.1: 5.0, 1.0: 6.0}, {0.1: 5.0, 1.0: 9.0}
    assert latency.since(before, after) == {0.1: 0.0, 1.0: 3.0}
    # A node that was started again counts from 0.
    assert latency.since(after, before) == before


@override_settings(STATE_DIR="/nowhere")
def test_without_a_stack_there_is_nothing_to_scale() -> None:
    with pytest.raises((ActuatorError, TypeError)):
        Embedded().sizes()


# --- The command --------------------------------------------------------------------------------
def test_a_dry_run_on_the_stack_prints_decisions(stack: EmbeddedStack) -> None:
    done = run_manage(stack, "autoscale", "--once", "--dry-run", env={"AUTOSCALE_SECONDS": "0.3"})
    assert done.returncode == 0, done.stderr
    assert "web: stays at 2, no rule has been watched for long enough" in done.stdout
    assert "workers: stays at 1, no rule has been watched for long enough" in done.stdout


def test_one_measurement_is_stored_in_the_history(stack: EmbeddedStack) -> None:
    done = run_manage(stack, "autoscale", "run", "--once", env={"AUTOSCALE_SECONDS": "0.3"})
    assert done.returncode == 0, done.stderr
    output = run_manage(stack, "autoscale", "history").stdout
    assert "no rule has been watched for long enough" in output
    assert '"fleet": "web"' in run_manage(stack, "autoscale", "history", "--json").stdout


def test_a_second_autoscaler_reports_the_lease_of_the_first(stack: EmbeddedStack) -> None:
    redis_client.run(lambda client: client.set(KEY, "another", px=30_000))
    done = run_manage(stack, "autoscale", "--once", env={"AUTOSCALE_SECONDS": "0.1"})
    assert done.returncode == 1
    assert "another autoscaler holds the lease" in done.stdout


def test_a_history_without_redis_is_an_error_with_advice(stack: EmbeddedStack) -> None:
    env = {"REDIS_URL": "redis://127.0.0.1:1/0"}
    done = run_manage(stack, "autoscale", "history", env=env)
    assert done.returncode == 1
    assert "Start the stack" in done.stderr


def test_a_policy_file_with_a_mistake_is_refused(stack: EmbeddedStack) -> None:
    done = run_manage(stack, "autoscale", "--policies", "/nowhere.toml", "--once")
    assert done.returncode == 1
    assert "/nowhere.toml: No such file" in done.stderr


# --- By HTTP alone ------------------------------------------------------------------------------
@pytest.mark.django_db
def test_the_web_nodes_are_measured_by_http_alone(stack: EmbeddedStack) -> None:
    source = ScrapedSource()
    source.measure({"web": 2, "workers": 1})
    found = source.measure({"web": 2, "workers": 1})
    assert found.problems == ()
    assert found.values["web"].keys() == MEASURES["web"]
    assert 30 < found.values["web"]["memory_mb"] < 2000
    assert found.values["workers"].keys() == {
        "waiting_jobs",
        "running_jobs",
        "oldest_wait_seconds",
    }


# --- As a process -------------------------------------------------------------------------------
def test_a_signal_ends_it_and_frees_the_lease(stack: EmbeddedStack) -> None:
    process = subprocess.Popen(
        [sys.executable, str(BASE_DIR / "manage.py"), "autoscale"],
        env={**stack.env, "AUTOSCALE_SECONDS": "30"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "lease: this autoscaler holds the lease\n"
        assert redis_client.run(lambda client: client.get(KEY)) is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert redis_client.run(lambda client: client.get(KEY)) is None
