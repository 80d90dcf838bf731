"""The command: start a stack, run on it, print what it showed, and stop."""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import psutil
import psycopg

from tests.faults.conftest import ENV
from tests.faults.soak.provider import ForgetfulProvider
from tests.faults.soak.report import as_dict, as_text, is_good, progress
from tests.faults.soak.run import Soak
from tests.stack_plugin import StackFailed
from tests.support.own_stack import OwnStack

ARGUMENTS = ("--nodes=2", "--workers=2", "--replicas=2", "--no-llm")
START_SECONDS = 300.0
# Beyond the run itself: the start, the last fault's recovery, the jobs' ends, the stop.
MORE_SECONDS = 900
# Of a run: what the tests' own tools raise where the stack does not recover.
FAILURES = (
    AssertionError,
    OSError,
    RuntimeError,
    httpx.HTTPError,
    psutil.Error,
    psycopg.Error,
    subprocess.SubprocessError,
)
CHAINS = {"cached": "always", "asked": "off"}


def main() -> int:
    """Return 0 when nothing was lost, doubled, stale or unexpected, and memory was flat.

    1 when something was, and 2 when the stack did not start.
    """
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    report = Path(arguments.report or tempfile.mkdtemp(prefix="headrace-soak-"))
    report.mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"seed {seed}, {arguments.minutes:g} minutes, report in {report}\n")
    # The stack ends with this process, even when something blocks it.
    faulthandler.dump_traceback_later(arguments.minutes * 60 + MORE_SECONDS, exit=True)
    signal.signal(signal.SIGTERM, _end)
    try:
        found = _run(arguments.minutes * 60, seed, report)
    except StackFailed as failure:
        last = str(failure).strip().splitlines()[-1:]
        sys.stderr.write(f"the stack did not start: {''.join(last)}\n")
        return 2
    sys.stdout.write(json.dumps(found) + "\n" if arguments.json else as_text(found))
    return 0 if is_good(found) else 1


def _run(seconds: float, seed: int, report: Path) -> dict[str, Any]:
    problem = ""
    with _stack() as stack:
        soak = Soak(stack, seed=seed)

        def on_round() -> None:
            sys.stderr.write(progress(soak.findings, seconds))
            # A run of hours that is killed leaves what it showed so far.
            _write(soak, report, "")

        try:
            soak.run(seconds=seconds, on_round=on_round)
        # The results so far are reported, and the run has failed.
        except FAILURES as error:
            problem = f"{type(error).__name__}: {error}"
        shutil.copytree(stack.state_dir / "logs", report / "logs", dirs_exist_ok=True)
    return _write(soak, report, problem)


def _write(soak: Soak, report: Path, problem: str) -> dict[str, Any]:
    soak.sampler.write(report / "memory.csv")
    found = as_dict(soak.findings, soak.breakage, soak.sampler.samples, problem)
    (report / "soak.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, help="repeats the choices of a run, not their timing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--report", help="a directory for soak.json, memory.csv and the logs")
    return parser.parse_args()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _stack() -> Iterator[OwnStack]:
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as directory:
        state_dir = Path(directory) / "stack"
        # Refusing early is to be seen under too much load.
        env = {name: value for name, value in ENV.items() if name != "OVERLOAD_DELAY_SECONDS"} | {
            # Nothing that was acknowledged may be lost with the primary.
            "EMBEDDED_SYNCHRONOUS_COMMIT": "remote_apply",
            "POSITION_SECONDS": "30",
            "REPLICA_MAX_LAG_SECONDS": "4",
        }
        stack = OwnStack(state_dir, arguments=ARGUMENTS, env=env)
        with ForgetfulProvider().running() as provider:
            try:
                stack.start(seconds=START_SECONDS)
                _add(stack, "quick", "--runnable=quick")
                model = ("--model=openai:soak", f"--base-url={provider.base_url}")
                for slug, mode in CHAINS.items():
                    _add(stack, slug, "--runnable=assistant", f"--cache-mode={mode}", *model)
                yield stack
            finally:
                stack.stop()


def _add(stack: OwnStack, slug: str, *options: str) -> None:
    made = stack.run("chains", "add", slug, *options)
    if made.returncode != 0:
        raise RuntimeError(made.stderr)
