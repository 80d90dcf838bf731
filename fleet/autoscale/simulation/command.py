"""`manage.py autoscale simulate`: its options and its output."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fleet.autoscale.errors import AutoscaleError
from fleet.autoscale.policies import WEB, Policies
from fleet.autoscale.simulation import trace
from fleet.autoscale.simulation.queueing import NodeModel
from fleet.autoscale.simulation.replay import Fleet, Outcome
from fleet.autoscale.simulation.replay import simulate as run

MAX_STEPS = 1_000_000
MAX_CHANGES_TOLD = 20


def add_simulate_options(parser: argparse.ArgumentParser) -> None:
    """Define what a team knows of its nodes."""
    parser.add_argument("trace", type=Path)
    parser.add_argument("--policies", type=Path, metavar="FILE", default=None)
    parser.add_argument("--output", type=Path, metavar="FILE.png", default=None)
    number = _number
    parser.add_argument("--capacity", type=number(0.001), default=30.0, metavar="RATE")
    parser.add_argument("--service-seconds", type=number(0.0001), default=0.5, metavar="SECONDS")
    parser.add_argument("--start-seconds", type=number(0), default=5.0, metavar="SECONDS")
    parser.add_argument("--drain-seconds", type=number(0), default=30.0, metavar="SECONDS")
    parser.add_argument("--queue-seconds", type=number(0), default=5.0, metavar="SECONDS")
    parser.add_argument("--slow-seconds", type=number(0), default=2.0, metavar="SECONDS")
    parser.add_argument("--step-seconds", type=number(0.1), default=5.0, metavar="SECONDS")
    parser.add_argument("--nodes", type=int, default=1, metavar="N")


def simulate(options: dict[str, Any], policies: Policies) -> Iterator[str]:
    """Replay a trace, draw it when a file is named, and yield what came of it line by line."""
    if WEB not in policies:
        raise AutoscaleError(f"these policies have no [{WEB}], which is what can be simulated")
    points = trace.read(options["trace"])
    step = options["step_seconds"]
    if points[-1].at / step > MAX_STEPS:
        raise AutoscaleError(f"more than {MAX_STEPS} steps: choose larger --step-seconds")
    rates = trace.rates(points, step)
    if not rates:
        raise AutoscaleError("the trace is shorter than a step: choose smaller --step-seconds")
    node = NodeModel(
        requests_per_second=options["capacity"], service_seconds=options["service_seconds"]
    )
    fleet = Fleet(
        node=node,
        start_seconds=options["start_seconds"],
        drain_seconds=options["drain_seconds"],
        longest_wait_seconds=options["queue_seconds"],
    )
    outcome = run(rates, policies[WEB], fleet, step_seconds=step, nodes=options["nodes"])
    yield from _report(outcome, options["slow_seconds"])
    if options["output"]:
        _draw(outcome, options["output"], title=f"{options['trace'].name}: load, nodes, latency")
        yield f"drawn in {options['output']}"


def _report(outcome: Outcome, slow_seconds: float) -> Iterator[str]:
    for measure in outcome.ignored:
        yield f"rules about {measure} are left out: the model has none"
    for at, decision in outcome.decisions[:MAX_CHANGES_TOLD]:
        yield f"{at:8.0f} s  {decision.size} -> {decision.target}  {decision.reason}"
    if (more := len(outcome.decisions) - MAX_CHANGES_TOLD) > 0:
        yield f"and {more} changes more"
    found = outcome.summary(slow_seconds=slow_seconds)
    share = 100 * found.refused / found.requests if found.requests else 0.0
    yield f"requests            {found.requests:.0f}, {found.refused:.0f} refused ({share:.2f}%)"
    yield f"nodes               {found.least} to {found.most}, {found.changes} changes"
    yield f"node hours          {found.node_hours:.1f}"
    yield f"worst p95           {found.worst_p95_seconds:.2f} s"
    yield f"p95 over {slow_seconds:g} s       {found.slow_seconds:.0f} s of the time"


def _draw(outcome: Outcome, path: Path, *, title: str) -> None:
    try:
        # Pillow is an extra that only this needs.
        from fleet.autoscale.simulation.plot import draw  # noqa: PLC0415
    except ImportError as error:
        raise AutoscaleError("--output needs Pillow: install the extra `simulate`") from error
    try:
        draw(outcome, path, title=title)
    except OSError as error:
        raise AutoscaleError(f"{path}: {error.strerror or error}") from error


def _number(least: float) -> Callable[[str], float]:
    def parse(raw: str) -> float:
        try:
            value = float(raw)
        except ValueError:
            value = math.nan
        if not (value >= least and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"must be a number from {least:g}")
        return value

    return parse
