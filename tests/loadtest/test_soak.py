"""A soak's judgement of memory, and its choice of faults."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace
from typing import Any

from tests.faults.soak.breakage import AFTERMATH_SECONDS, NO_FAULT, Breakage
from tests.faults.soak.memory import Sample, growths
from tests.faults.soak.report import MUST_BE_NONE, MUST_BE_SOME, as_dict, as_text, chart, is_good
from tests.faults.soak.run import Findings

MEGABYTE = 1024 * 1024


def life(part: str, megabytes: list[int], *, pid: int = 1, files: int = 10) -> list[Sample]:
    return [
        Sample(at=float(at), part=part, pid=pid, rss_bytes=mb * MEGABYTE, files=files, threads=2)
        for at, mb in enumerate(megabytes)
    ]


def test_a_process_that_stays_as_it_is_is_flat() -> None:
    (found,) = growths(life("node1", [200, 205, 198, 202] * 10))
    assert found.is_flat
    assert found.seconds == 39


def test_a_process_that_grows_is_not() -> None:
    (found,) = growths(life("node1", list(range(200, 300))))
    assert not found.is_flat
    assert found.first_bytes < found.last_bytes


def test_what_fills_at_the_beginning_is_no_growth() -> None:
    (found,) = growths(life("node1", [100, 150, 190, *[200] * 37]))
    assert found.is_flat


def test_open_files_that_grow_are_a_leak() -> None:
    samples = life("node1", [200] * 20) + life("node1", [200] * 20, files=100)
    (found,) = growths(samples)
    assert not found.is_flat


def test_of_a_process_that_was_killed_the_longest_life_is_judged() -> None:
    samples = life("node2", [200] * 20, pid=1) + life("node2", [100] * 30, pid=2)
    (found,) = growths(samples)
    assert found.pid == 2


def test_a_short_life_says_nothing() -> None:
    assert growths(life("node2", [1, 1000])) == []


def test_the_chart_is_as_high_as_the_most() -> None:
    assert chart(life("node1", [50] * 24 + [100] * 24)) == "▅" * 12 + "█" * 12


def figures(*, problem: str = "", megabytes: int = 200, **more: Any) -> dict[str, Any]:
    did = {"acknowledged_writes": 2, "reads": 3}
    findings = Findings(seed=7, seconds=60, rounds=1, **{**did, **more})
    findings.statuses["read 200"] += 3
    no_servers: Any = SimpleNamespace()
    breakage = Breakage(no_servers, random.Random(7), began=0)
    breakage.counts["kill a node"] += 1
    samples = life("node1", [200] * 20 + [megabytes] * 20)
    found: dict[str, Any] = json.loads(json.dumps(as_dict(findings, breakage, samples, problem)))
    return found


def breakage_at(*times: tuple[str, float, float]) -> Breakage:
    no_servers: Any = SimpleNamespace()
    return Breakage(no_servers, random.Random(7), began=0, times=list(times))


def test_a_failure_belongs_to_the_fault_that_its_request_met() -> None:
    breakage = breakage_at(("kill a node", 10, 12), ("freeze Redis", 20, 22))
    assert breakage.fault_between(9, 10.5) == "kill a node"
    assert breakage.fault_between(11, 21) == "freeze Redis"
    assert breakage.fault_between(22 + AFTERMATH_SECONDS / 2, 30) == "freeze Redis"
    assert breakage.fault_between(12 + AFTERMATH_SECONDS, 19) == NO_FAULT


def test_a_run_without_findings_is_good_in_both_reports() -> None:
    found = figures()
    assert is_good(found)
    assert found["statuses"] == {"read 200": 3}
    assert found["failures"] == {}
    text = as_text(found)
    assert "seed 7" in text
    assert "lost 0, doubled 0, stale 0" in text
    assert "node1" in text


def test_any_finding_makes_it_bad() -> None:
    assert not is_good(figures(problem="TimeoutError: not whole again"))
    assert not is_good(figures(megabytes=300))
    # A load that does nothing finds nothing.
    for name in MUST_BE_SOME:
        nothing: dict[str, Any] = {name: 0}
        assert not is_good(figures(**nothing))
    for name in MUST_BE_NONE:
        finding: dict[str, Any] = {name: ["what was found"]}
        found = figures(**finding)
        assert not is_good(found)
        assert f"{name}: what was found" in as_text(found)
