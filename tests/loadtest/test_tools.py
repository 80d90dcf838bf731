"""Locust and k6 against the running stack: a few seconds of each, by `loadtest.load`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import zlib
from base64 import b64decode
from pathlib import Path

import pytest

from loadtest.load import TOOLS
from loadtest.plan import MIX
from tests.loadtest import broken_streams
from tests.stack_plugin import BASE_DIR, EmbeddedStack
from tests.support.waiting import slack

BIN = BASE_DIR / ".venv-load" / "bin"
# A test's machine is busy.
PATIENT = {"error_rate": 0, "p95_ms": {"chat": 60_000, "first token": 60_000, "job": 60_000}}


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Skip where the tools are not installed; in CI they must be."""
    missing = [name for name in TOOLS if not (BIN / name).exists()]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{', '.join(missing)} not installed; make install-load does it")
    assert not missing


@pytest.fixture
def mix(tmp_path: Path) -> Path:
    """Write a file in which everything is as likely, and nothing takes long."""
    mix = json.loads(MIX.read_text())
    mix["weights"] = dict.fromkeys(mix["weights"], 1)
    mix["thresholds"] = PATIENT
    mix["job"]["poll_seconds"] = 0.1
    path = tmp_path / "mix.json"
    path.write_text(json.dumps(mix))
    return path


def load(stack: EmbeddedStack, tool: str, mix: Path, **more: str) -> tuple[int, str, str]:
    """Run four seconds of the smoke profile; return exit code, output and report."""
    report = mix.with_name(f"{tool}.html")
    variables = {
        "LOAD_TOOL": tool,
        "LOAD_URL": stack.url,
        "LOAD_KEY": stack.demo_key,
        "LOAD_PROFILE": "smoke",
        "LOAD_TIME_SCALE": "0.4",
        "LOAD_MIX": str(mix),
        "LOAD_MODEL": "words",
        "LOAD_JOB_CHAIN": "mirror",
        "LOAD_REPORT": str(report),
        **more,
    }
    done = subprocess.run(
        [str(BIN / "python"), "-m", "loadtest.load"],
        cwd=BASE_DIR,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr, read(report)


def read(report: Path) -> str:
    """Return a report's page, and the figures that k6 packs into it."""
    if not report.exists():
        return ""
    html = report.read_text(encoding="utf-8")
    packed = re.search(r'<script id="data"[^>]*gzip[^>]*>(.*?)</script>', html, re.DOTALL)
    if packed is None:
        return html
    # k6 does not always end what it packs, which gzip would not bear.
    return html + zlib.decompressobj(zlib.MAX_WBITS + 16).decompress(b64decode(packed[1])).decode()


@pytest.mark.parametrize("tool", TOOLS)
def test_every_kind_of_use_succeeds_and_leaves_a_report(
    stack: EmbeddedStack, chains: None, mix: Path, tool: str
) -> None:
    code, output, report = load(stack, tool, mix)
    assert code == 0, output
    assert "<html" in report
    assert stack.demo_key not in output + report
    names = {
        "locust": ("first token", "job, submission to end", "GET /v1/conversations/{id}/messages"),
        "k6": ("first_token", "job", "message"),
    }
    for name in names[tool]:
        assert re.search(rf"\b{re.escape(name)}\W.*[1-9]", output), f"{name}: {output}"
        assert name in report


@pytest.mark.parametrize("tool", TOOLS)
def test_errors_make_it_fail_and_still_leave_a_report(
    stack: EmbeddedStack, chains: None, mix: Path, tool: str
) -> None:
    code, output, report = load(stack, tool, mix, LOAD_MODEL="no-such-chain")
    assert code == 1, output
    assert "404" in output
    assert "<html" in report


@pytest.mark.parametrize("tool", TOOLS)
def test_streams_that_end_wrongly_are_errors(stack: EmbeddedStack, mix: Path, tool: str) -> None:
    wanted = json.loads(mix.read_text())
    wanted["weights"] = {"stream": 1}
    mix.write_text(json.dumps(wanted))
    with broken_streams.running() as url:
        code, output, _ = load(stack, tool, mix, LOAD_URL=url)
    assert code == 1, output
    for reason in (
        "Incomplete response|unexpected EOF",
        "boom",
        "JSONDecodeError|SyntaxError",
        "broke off",
    ):
        assert re.search(reason, output), f"{reason}: {output}"
    assert "Traceback" not in output


@pytest.mark.parametrize("tool", TOOLS)
def test_slowness_makes_it_fail(stack: EmbeddedStack, chains: None, mix: Path, tool: str) -> None:
    wanted = json.loads(mix.read_text())
    wanted["thresholds"]["p95_ms"]["chat"] = 0.001
    mix.write_text(json.dumps(wanted))
    code, output, _ = load(stack, tool, mix, LOAD_TIME_SCALE="0.15")
    assert code == 1, output
    assert "chat" in output


@pytest.mark.parametrize("tool", TOOLS)
def test_it_stops_at_the_most_requests(
    stack: EmbeddedStack, chains: None, mix: Path, tool: str
) -> None:
    began = time.monotonic()
    code, output, _ = load(stack, tool, mix, LOAD_MAX_REQUESTS="5", LOAD_TIME_SCALE="9")
    assert code == 1, output
    assert time.monotonic() - began < slack(60)


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("locust", ["-f", "loadtest/locustfile.py", "--headless"]),
        ("k6", ["run", "--no-usage-report", "loadtest/chat.js"]),
    ],
)
def test_the_scripts_themselves_refuse_another_machine(tool: str, command: list[str]) -> None:
    for url in ("http://192.0.2.1", "http://127.0.0.1@192.0.2.1", "http://127.0.0.1.example.org"):
        done = subprocess.run(
            [str(BIN / tool), *command],
            cwd=BASE_DIR,
            env={**os.environ, "LOAD_URL": url, "LOAD_KEY": "hr_key"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode != 0
        assert re.search("is not this machine|it must be like", done.stdout + done.stderr)
