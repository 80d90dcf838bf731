"""What costs most at the limits of requests does not hold the event loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.provider import Provider
from tests.stack_plugin import BASE_DIR, EmbeddedStack

WAYS = ("long_history", "models_of_chains", "long_job", "long_end", "many_failures")


@pytest.fixture(scope="module")
def stalls(stack: EmbeddedStack) -> dict[str, float]:
    """How often the guard saw the loop of a process stand for 0.1 s, by what it did."""
    with Provider().running() as provider:
        done = subprocess.run(
            [sys.executable, "-m", "tests.jobs.stall_process", provider.base_url],
            cwd=BASE_DIR,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "DATABASE_URL": stack.database_url,
                "LLM_API_KEY": "x",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    sys.stderr.write(done.stderr)
    rows = map(json.loads, done.stdout.splitlines())
    return {row["way"]: row["stalls"] for row in rows}


@pytest.mark.parametrize("way", WAYS)
def test_the_loop_does_not_stand(stalls: dict[str, float], way: str) -> None:
    assert stalls[way] == 0
