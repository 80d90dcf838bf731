"""Start what is measured, and stop it again."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 180
# Limits are on, and high enough never to refuse.
KEY_LIMITS = ["--requests-per-minute=10000000", "--tokens-per-day=1000000000"]
KEY_LIMITS += ["--max-concurrent=100000"]
CHAINS = ("busy-chat", "fake-chat", "slow-chat", "ticker", "trivial", "two-seconds")
RUNNABLES = ",".join(f"{name}=loadtest.chains.{name.replace('-', '_')}" for name in CHAINS)


@dataclass(frozen=True, kw_only=True)
class Headrace:
    """A running stack: its public address, its nodes' addresses, and a key with limits."""

    url: str
    key: str
    state_dir: Path
    stats_url: str

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The nodes' parts, as `cluster status` shows them."""
        status = json.loads(manage(self.state_dir, "cluster", "status", "--json"))
        return [part for part in status["parts"] if part["kind"] == "node"]

    def part(self, name: str) -> dict[str, Any]:
        """Return a part as `cluster status` shows it."""
        status = json.loads(manage(self.state_dir, "cluster", "status", "--json"))
        [found] = [part for part in status["parts"] if part["name"] == name]
        return dict(found)

    def answers_by_server(self) -> list[int]:
        """Return how many requests each of HAProxy's servers has answered well."""
        return [int(row["hrsp_2xx"] or 0) for row in self._servers()]

    def sessions_at(self, node: str) -> int:
        """Return how many requests and streams HAProxy has open at a node."""
        [row] = [row for row in self._servers() if row["svname"] == node]
        return int(row["scur"])

    def _servers(self) -> list[dict[str, str]]:
        with urllib.request.urlopen(f"{self.stats_url}/;csv", timeout=5) as response:  # noqa: S310
            rows = csv.DictReader(response.read().decode().splitlines())
            return [row for row in rows if row["# pxname"] == "web" and row["svname"] != "BACKEND"]

    def memory_bytes(self) -> list[int]:
        """Return each node's memory, master and workers; shared pages are counted in shares."""
        return [_memory_of(node["pid"]) for node in self.nodes]


@contextmanager
def headrace(
    *,
    nodes: int,
    workers: int = 0,
    replicas: int = 0,
    options: Sequence[str] = (),
    env: Mapping[str, str] = {},
) -> Iterator[Headrace]:
    """Run the embedded stack with the benchmark's chains, in a directory of its own.

    `options` are more of `cluster up`.
    """
    with tempfile.TemporaryDirectory(prefix="hr-bench-", ignore_cleanup_errors=True) as name:
        state_dir = Path(name)
        port, stats_port = free_port(), free_port()
        environment = {
            **os.environ,
            "STATE_DIR": name,
            "PORT": str(port),
            "STATS_PORT": str(stats_port),
            "CHAIN_RUNNABLES": RUNNABLES,
            "EMBEDDED_WSGI": "loadtest.constant",
            **env,
        }
        log = state_dir / "bench.log"
        command = [sys.executable, "manage.py", "cluster", "up", "--no-llm"]
        command += [f"--nodes={nodes}", f"--workers={workers}", f"--replicas={replicas}", *options]
        with process(command, environment, log):
            url = f"http://127.0.0.1:{port}"
            wait_until_answers(f"{url}/health/ready", log)
            manage(state_dir, "loaddata", "loadtest/fixtures/chains.json")
            created = manage(state_dir, "apikey", "create", "--name=bench", "--json", *KEY_LIMITS)
            yield Headrace(
                url=url,
                key=json.loads(created)["key"],
                state_dir=state_dir,
                stats_url=f"http://127.0.0.1:{stats_port}",
            )


@contextmanager
def langserve() -> Iterator[str]:
    """Run LangServe on one uvicorn worker from its own virtual environment; yields its URL."""
    port = free_port()
    python = ROOT / ".venv-peers" / "bin" / "python"
    command = [str(python), "-m", "uvicorn", "loadtest.peers.langserve_app:app"]
    command += ["--host=127.0.0.1", f"--port={port}", "--log-level=warning", "--no-access-log"]
    with tempfile.TemporaryDirectory(prefix="hr-bench-") as name:
        log = Path(name) / "langserve.log"
        with process(command, dict(os.environ), log):
            wait_until_answers(f"http://127.0.0.1:{port}/openapi.json", log)
            yield f"http://127.0.0.1:{port}"


@contextmanager
def litellm(ours: Headrace) -> Iterator[str]:
    """Run LiteLLM's proxy on one worker, with the stack's Redis as its cache; yields its URL.

    Yields "" when it is not installed in the peers' environment.
    """
    program = ROOT / ".venv-peers" / "bin" / "litellm"
    if not program.exists():
        yield ""
        return
    lines = (ours.state_dir / "stack.env").read_text().splitlines()
    redis_url = dict(line.split("=", 1) for line in lines)["CACHE_URL"]
    port = free_port()
    config = ROOT / "loadtest" / "peers" / "litellm.yaml"
    command = [str(program), f"--config={config}", "--host=127.0.0.1", f"--port={port}"]
    environment = {**os.environ, "REDIS_URL": redis_url, "LITELLM_LOG": "ERROR"}
    environment |= {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with tempfile.TemporaryDirectory(prefix="hr-bench-") as name:
        log = Path(name) / "litellm.log"
        with process(command, environment, log):
            wait_until_answers(f"http://127.0.0.1:{port}/health/liveliness", log)
            yield f"http://127.0.0.1:{port}"


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block, with its output in a file."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(timeout=30)
        except subprocess.TimeoutExpired:
            running.kill()


def wait_until_answers(url: str, log: Path) -> None:
    """Wait for a 200 at a URL. Raises RuntimeError with the end of the log."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"{url} did not answer:\n{log.read_text(errors='replace')[-3000:]}")


def manage(state_dir: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "STATE_DIR": str(state_dir),
        "CHAIN_RUNNABLES": RUNNABLES,
    }
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def _memory_of(pid: int) -> int:
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(member.memory_full_info().pss for member in family)
