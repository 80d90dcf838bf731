"""The stalls that the loop guard counts, and the stack that it names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest


@pytest.fixture(scope="module")
def output() -> subprocess.CompletedProcess[str]:
    """The output and the log of a process that held its loop."""
    return subprocess.run(
        [sys.executable, "-m", "tests.node.loop_guard_process"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def counted(output: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The stalls that were counted, by how the loop was held."""
    rows = map(json.loads, output.stdout.splitlines())
    return {row["way"]: row for row in rows}


def stacks(output: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines that name stacks."""
    return [line for line in output.stderr.splitlines() if "was blocked" in line]


@pytest.mark.parametrize("way", ["in_python", "in_c", "in_a_blocking_call"])
def test_a_stall_is_counted_once_and_names_its_stack(
    counted: dict[str, Any], output: subprocess.CompletedProcess[str], way: str
) -> None:
    assert counted[way]["count"] == 1
    assert 0.1 < counted[way]["seconds"] < 2
    (line,) = [line for line in stacks(output) if f"{way} (" in line]
    assert "tests/node/loop_guard_process.py:" in line


@pytest.mark.parametrize("way", ["in_many_short_pieces", "while_stopped", "while_idle"])
def test_what_the_loop_did_not_do_is_no_stall(
    counted: dict[str, Any], output: subprocess.CompletedProcess[str], way: str
) -> None:
    assert counted[way]["count"] == 0
    assert not [line for line in stacks(output) if way in line]


def test_a_loop_that_stands_is_reported_before_it_goes_on(
    counted: dict[str, Any], output: subprocess.CompletedProcess[str]
) -> None:
    early, late = [line for line in stacks(output) if "for_long (" in line]
    assert "so far" in early
    assert "so far" not in late
    assert counted["for_long"]["count"] == 1
