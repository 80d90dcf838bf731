"""The report of a run, as JSON and as text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.faults.soak.breakage import Breakage
from tests.faults.soak.memory import Sample, growths
from tests.faults.soak.run import Findings

BARS = "▁▂▃▄▅▆▇█"
CHART_WIDTH = 24
MEGABYTE = 1024 * 1024
# The rest is in soak.json.
SHOWN = 5
MUST_BE_NONE = ("lost", "doubled", "stale", "unexpected", "unexplained", "stuck")
MUST_BE_SOME = ("acknowledged_writes", "reads")


def as_dict(
    findings: Findings, breakage: Breakage, samples: Sequence[Sample], problem: str
) -> dict[str, Any]:
    """Return the figures of a run; `problem` is why it ended early, if it did."""
    return {
        **vars(findings),
        "problem": problem,
        "broken": dict(breakage.counts),
        "slowest_recovery": list(breakage.slowest_recovery),
        "faults": [f"{at:.1f} {text}" for at, text in breakage.log],
        "memory": [
            {
                **asdict(growth),
                "is_flat": growth.is_flat,
                "chart": chart(
                    [
                        sample
                        for sample in samples
                        if (sample.part, sample.pid) == (growth.part, growth.pid)
                    ]
                ),
            }
            for growth in growths(samples)
        ],
    }


def progress(findings: Findings, seconds: float) -> str:
    """Return a line about a run that goes on."""
    bad = ", ".join(
        f"{name} {len(getattr(findings, name))}" for name in MUST_BE_NONE if getattr(findings, name)
    )
    return (
        f"{findings.seconds:.0f} of {seconds:.0f} s: {findings.acknowledged_writes} writes and"
        f" {findings.reads} reads checked, {sum(findings.statuses.values())} answers;"
        f" {bad or 'nothing wrong'}\n"
    )


def is_good(found: dict[str, Any]) -> bool:
    """Return whether nothing went wrong in a run that did something."""
    return (
        not found["problem"]
        and all(found[name] for name in MUST_BE_SOME)
        and not any(found[name] for name in MUST_BE_NONE)
        and all(growth["is_flat"] for growth in found["memory"])
    )


def chart(samples: Sequence[Sample]) -> str:
    """Return memory over time as a line of bars, from nothing to the most."""
    most = max(sample.rss_bytes for sample in samples)
    step = max(1, len(samples) // CHART_WIDTH)
    means = [
        statistics.mean(sample.rss_bytes for sample in samples[start : start + step])
        for start in range(0, len(samples), step)
    ]
    return "".join(BARS[min(len(BARS) - 1, int(mean / most * len(BARS)))] for mean in means)


def as_text(found: dict[str, Any]) -> str:
    """Return the figures for people."""
    lines = [
        f"seed {found['seed']}, {found['seconds']:.0f} s, {found['rounds']} rounds,"
        f" calibrated at {found['capacity_per_second']:.0f}/s"
        + (f"; ended early: {found['problem']}" if found["problem"] else ""),
        ", ".join(f"{name} {len(found[name])}" for name in MUST_BE_NONE),
        f"acknowledged writes {found['acknowledged_writes']}, checked reads {found['reads']},"
        f" slowest answer of the mixed load {found['slowest_seconds']:.1f} s",
        f"answers {dict(sorted(found['statuses'].items()))}",
        *(
            f"failed, {fault}: {dict(counts)}"
            for fault, counts in sorted(found["failures"].items())
        ),
        f"broken {found['broken']}",
        f"slowest recovery {found['slowest_recovery'][0]:.1f} s, {found['slowest_recovery'][1]}",
        "",
        f"{'process':<12} {'lived':>7} {'first':>8} {'last':>8} {'files':>11} {'threads':>9} flat",
    ]
    for row in found["memory"]:
        lines.append(
            f"{row['part']:<12} {row['seconds']:>5.0f} s"
            f" {row['first_bytes'] / MEGABYTE:>5.0f} MB {row['last_bytes'] / MEGABYTE:>5.0f} MB"
            f" {row['first_files']:>5}/{row['last_files']:<5}"
            f" {row['first_threads']:>4}/{row['last_threads']:<4}"
            f" {'yes' if row['is_flat'] else 'NO '}  {row['chart']}"
        )
    for name in MUST_BE_NONE:
        lines += [f"{name}: {text}" for text in found[name][:SHOWN]]
    return "\n".join(lines) + "\n"
