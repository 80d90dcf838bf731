"""Traces, the queueing model, the simulation, and its picture."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fleet.autoscale.errors import TraceError
from fleet.autoscale.policies import Policy, Rule, load
from fleet.autoscale.simulation import trace
from fleet.autoscale.simulation.queueing import NodeModel, serve
from fleet.autoscale.simulation.replay import Fleet, Outcome, modelled, simulate
from tests.stack_plugin import BASE_DIR, EmbeddedStack
from tests.support.calls import run_manage

DAY = BASE_DIR / "loadtest/traces/day.csv"
NODE = NodeModel(requests_per_second=10.0, service_seconds=0.5)
FLEET = Fleet(node=NODE, start_seconds=10, drain_seconds=20, longest_wait_seconds=5)
POLICY = Policy(
    minimum=1,
    maximum=50,
    cooldown_up_seconds=0,
    cooldown_down_seconds=60,
    step_limit=10,
    stale_seconds=30,
    rules=(
        Rule(measure="cpu_percent", threshold=60, for_seconds=30, grows=True, count=1, percent=50),
        Rule(measure="cpu_percent", threshold=30, for_seconds=60, grows=False, count=1),
    ),
)


# --- Traces -------------------------------------------------------------------------------------
def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_rate_holds_until_the_next_line(tmp_path: Path) -> None:
    path = written(
        tmp_path, "# said first\ntime,requests_per_second\n100,10\n103,20\n110,0\n115,0\n"
    )
    # The second step has 3 seconds of 10, then 2 of 20.
    assert trace.rates(trace.read(path), 5.0) == [14.0, 20.0, 0.0]


def test_times_may_be_dates(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "time,requests_per_second\n2026-01-01T00:00:00Z,1\n2026-01-01T00:01:00+00:00,2\n",
    )
    assert [point.at for point in trace.read(path)] == [0.0, 60.0]


def test_a_spreadsheets_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufefftime,requests_per_second\n0,1\n60,2\n")
    assert [point.rate for point in trace.read(path)] == [1, 2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "needs a first line"),
        ("when,rate\n1,2\n", "needs a first line"),
        ("time,requests_per_second\n1,2\n", "two points"),
        ("time,requests_per_second\n1,2\n2,many\n", "row 2: could not convert"),
        ("time,requests_per_second\n1,2\n2\n", "row 2"),
        ("time,requests_per_second\n1,2\n2,-1\n", "row 2: requests_per_second must be from 0"),
        ("time,requests_per_second\n1,2\n2,nan\n", "row 2"),
        ("time,requests_per_second\n1,2\n2,1e308\n", "row 2: requests_per_second must be from 0"),
        ("time,requests_per_second\n1,2\nnan,1\n", "row 2: time must be a number"),
        ("time,requests_per_second\n1,2\nyesterday,1\n", "row 2"),
        ("time,requests_per_second\n1,2\n1,3\n", "row 2: time must grow"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(TraceError, match=problem):
        trace.read(written(tmp_path, text))


def test_a_missing_trace_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        trace.read(tmp_path / "none.csv")


# --- The queueing model -------------------------------------------------------------------------
def erlang_c(servers: int, offered: float) -> float:
    """Return the probability of waiting in M/M/c, by Erlang's recursion."""
    blocking = 1.0
    for number in range(1, servers + 1):
        blocking = offered * blocking / (number + offered * blocking)
    load = offered / servers
    return blocking / (1 - load + load * blocking)


@pytest.mark.parametrize("nodes", [1, 2, 20, 200])
@pytest.mark.parametrize("load", [0.5, 0.8, 0.95])
def test_waiting_below_capacity_is_that_of_erlang(nodes: int, load: float) -> None:
    rate, servers = nodes * 10.0 * load, nodes * 5
    exact = erlang_c(servers, rate * 0.5) / (nodes * 10.0 - rate)
    served = serve(rate, nodes=nodes, waiting=0, node=NODE, seconds=5, longest_wait_seconds=99)
    # A tenth of the time that a request takes anyway is as good as nothing.
    assert served.queue_seconds == pytest.approx(exact, rel=0.25, abs=0.05)
    assert served.refused == 0


def test_above_capacity_requests_pile_up_and_then_are_refused() -> None:
    first = serve(30, nodes=2, waiting=0, node=NODE, seconds=5, longest_wait_seconds=5)
    assert (first.rate, first.waiting, first.refused) == (20, 50, 0)
    assert first.queue_seconds == 2.5
    second = serve(
        30, nodes=2, waiting=first.waiting, node=NODE, seconds=5, longest_wait_seconds=2.5
    )
    assert (second.waiting, second.refused) == (50, 10)
    assert second.queue_seconds == 2.5


@given(st.floats(0, 10_000), st.integers(0, 5000), st.floats(0, 10_000), st.floats(0, 60))
def test_no_request_is_lost_from_the_books(
    rate: float, nodes: int, waiting: float, longest: float
) -> None:
    served = serve(
        rate,
        nodes=nodes,
        waiting=waiting,
        node=NODE,
        seconds=5,
        longest_wait_seconds=longest,
    )
    left = served.waiting + (served.refused + served.rate) * 5
    assert left == pytest.approx(waiting + rate * 5, abs=1e-6)
    assert 0 <= served.utilisation <= 1
    assert 0.5 <= served.mean_seconds <= 0.5 + longest + 1e-9
    assert math.isfinite(served.p95_seconds)


# --- The simulation -----------------------------------------------------------------------------
def crowd(nodes: int = 1) -> Outcome:
    return simulate(
        [5.0] * 60 + [100.0] * 120 + [5.0] * 300, POLICY, FLEET, step_seconds=5, nodes=nodes
    )


def test_nodes_follow_the_load_and_take_their_time_to_start() -> None:
    outcome = crowd()
    sizes = [moment.size for moment in outcome.moments]
    assert sizes[0] == 1
    assert max(sizes) >= 17
    assert sizes[-1] == 1
    grown = next(m for m in outcome.moments if m.size > 1)
    assert (grown.ready, grown.size) == (1, 2)
    ready = next(m for m in outcome.moments if m.ready > 1)
    assert ready.at - grown.at == 10
    calm = outcome.moments[170]
    assert calm.served.utilisation <= 0.6
    assert calm.served.p95_seconds < 1


def test_the_summary_adds_up() -> None:
    outcome = crowd()
    summary = outcome.summary(slow_seconds=1.0)
    assert summary.requests == 5 * (5 * 60 + 100 * 120 + 5 * 300)
    assert summary.refused > 0
    assert summary.changes == len(outcome.decisions)
    assert (summary.least, summary.most) == (1, max(m.size for m in outcome.moments))
    assert summary.node_hours == pytest.approx(sum(m.size for m in outcome.moments) * 5 / 3600)
    assert 5 < summary.worst_p95_seconds < 6
    assert 0 < summary.slow_seconds < 600


def test_rules_that_the_model_does_not_know_are_left_out() -> None:
    policy, ignored = modelled(load()["web"])
    assert ignored == ["memory_mb"]
    assert "memory_mb" not in {rule.measure for rule in policy.rules}


def test_a_day_of_thousands_of_nodes_takes_seconds() -> None:
    rates = [100_000 * (1 + 0.9 * math.sin(n / 2750)) for n in range(17_280)]
    policy = Policy(**{**vars(POLICY), "minimum": 10, "maximum": 100_000, "step_limit": 10_000})
    started = time.process_time()
    outcome = simulate(rates, policy, FLEET, step_seconds=5, nodes=10_000)
    assert time.process_time() - started < 20
    assert max(m.size for m in outcome.moments) > 19_000


# --- The command --------------------------------------------------------------------------------
def test_the_command_prints_and_draws(stack: EmbeddedStack, tmp_path: Path) -> None:
    picture = tmp_path / "day.png"
    done = run_manage(stack, "autoscale", "simulate", str(DAY), "--output", str(picture))
    assert done.returncode == 0, done.stderr
    assert "requests_per_minute was" in done.stdout
    assert "rules about memory_mb are left out" in done.stdout
    assert "node hours" in done.stdout
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert image.width >= 1000
        colours = image.convert("RGB").getcolors(maxcolors=1_000_000)
    # Load, refusals, nodes wanted and ready, and both latencies are lines of their own.
    assert colours is not None
    drawn = {colour for count, colour in colours if count > 500}
    assert {(0x25, 0x63, 0xA8), (0x23, 0x75, 0x3A), (0xB3, 0x26, 0x1E)} <= drawn


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["none.csv"], "No such file"),
        ([str(DAY), "--output", "/nowhere/day.png"], "No such file"),
        ([str(DAY), "--step-seconds", "90000"], "shorter than a step"),
        ([str(DAY), "--capacity", "0"], "must be a number from 0.001"),
    ],
)
def test_the_command_reports_its_errors(
    stack: EmbeddedStack, options: list[str], problem: str
) -> None:
    done = run_manage(stack, "autoscale", "simulate", *options)
    assert done.returncode in (1, 2)
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
