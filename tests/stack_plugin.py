"""Start one embedded stack for the whole test run, before Django reads its settings.

Loaded by `-p tests.stack_plugin` (pyproject.toml). The settings then come from that stack:
pytest-django makes its test database on the stack's own PostgreSQL, and the end-to-end tests speak
HTTP to its HAProxy. For quick runs again and again, set `HEADRACE_TEST_STATE_DIR`: a stack that is
already running there is used and left running.

`make test` runs the tests in two processes (pytest-xdist), each with a stack of its own: the suite
waits more than it computes. The process that shares out the tests has no stack. Under `-m faults`
most tests have stacks of their own, so this one is started by the first test that uses it: an idle
stack takes a seventh of a processor.

Nothing of Headrace may be imported here: its settings are read once, at the first import.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.chains import NAMES
from tests.support.commands import Commands
from tests.support.stalls import STALLS, summarize
from tests.support.waiting import slack

pytest_plugins = ["tests.support.collection", "tests.support.fault_order"]
BASE_DIR = Path(__file__).resolve().parent.parent
MANAGE = [sys.executable, str(BASE_DIR / "manage.py")]
READY_SECONDS = 90.0
STOP_SECONDS = 20.0
# Below the ports that the stack chooses for its other parts.
PUBLIC_PORTS = range(10_000, 19_000)
STATS_PORT_OFFSET = 404

# The environment of this process as it was, for stacks that tests start by themselves.
# What says where a part is would keep them from starting that part.
CLEAN_ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in {"STATE_DIR", "PORT", "STATS_PORT", "SECRET_KEY"}
    and not name.startswith(
        ("DATABASE_URL", "DATABASE_REPLICA_URLS", "CACHE_URL", "REDIS_URL", "LLM_")
    )
}

# Set by pytest-xdist in the processes that run the tests.
WORKER_VARIABLE = "PYTEST_XDIST_WORKER"

# Settings of the session's stack, and of Django in this process.
STACK_ENV: dict[str, str] = {
    # Every runnable of tests/chains.py is there under its own name.
    "CHAIN_RUNNABLES": ",".join(f"{name}=tests.chains.{name}" for name in NAMES),
    # Tests add chains and change them; both nodes see it soon.
    "CHAIN_CACHE_SECONDS": "0.2",
    # A stream whose model is silent is heard of within a second.
    "STREAM_HEARTBEAT_SECONDS": "1",
    # A failing provider is tried again at once, and one that wants a pause within two seconds.
    "PROVIDER_RETRY_BASE_SECONDS": "0.02",
    "PROVIDER_RETRY_MAX_SECONDS": "2",
    # A job that failed is tried again soon.
    "JOB_RETRY_BASE_SECONDS": "0.1",
    # A body that stalls is given up soon.
    "BODY_TIMEOUT_SECONDS": "4",
    # To whom tests may have e-mail sent.
    "NOTIFY_EMAIL_ALLOWED": "example.com,example.org",
    "PROXY_CLIENT_TIMEOUT": "3s",
    # Tests log in to the admin more often than people do.
    "PROXY_ADDRESS_LOGINS": "10000",
    "PROXY_LOGINS": "60000",
}


class StackFailed(Exception):
    """`cluster up` ended before the stack was ready; the text is what it printed."""


class EmbeddedStack:
    """A stack run by `manage.py cluster up` as a process of its own."""

    def __init__(
        self, state_dir: Path, *, arguments: tuple[str, ...] = (), env: Mapping[str, str] = {}
    ) -> None:
        self.state_dir = state_dir
        self.arguments = arguments
        self.env = {**CLEAN_ENVIRONMENT, **env, "STATE_DIR": str(state_dir)}
        self.env.setdefault("PORT", str(free_public_port()))
        # Each stall of an event loop is logged; the test run tells of them at its end.
        self.env.setdefault("EVENT_LOOP_STACK_SECONDS", "0")
        # Collecting the static files takes seconds, so the stacks of a test run share them.
        if SESSION.state_dir is not None:
            self.env.setdefault("STATIC_ROOT", str(SESSION.state_dir / "static"))
        self.output_file = state_dir / "up.out"
        # What `cluster up` is run by.
        self.prefix: tuple[str, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None
        self._commands: Commands | None = None

    def start(self, *, seconds: float = READY_SECONDS) -> None:
        """Start it and wait until it is ready; raise `StackFailed` when it ends instead."""
        self.launch()
        deadline = time.monotonic() + slack(seconds)
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None:
                raise StackFailed(self.output())
            if time.monotonic() > deadline:
                self.stop()
                raise StackFailed(f"not ready in {seconds} s:\n{self.output()}")
            time.sleep(0.05)

    def launch(self) -> None:
        """Start `cluster up` without waiting."""
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # When this process is killed, so is the stack.
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                [*prefix, *self.prefix, *MANAGE, "cluster", "up", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
            )

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Send a signal to `cluster up` and wait for its end; return how many seconds it took."""
        started = time.monotonic()
        if self._commands is not None:
            self._commands.close()
            self._commands = None
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        STALLS.collect(self.state_dir)
        return time.monotonic() - started

    def is_ready(self) -> bool:
        """Say whether the stack is ready, and not one that was killed here before it."""
        record = self.record()
        if self.process is not None and record.get("pid") != self.process.pid:
            return False
        return bool(record.get("is_ready")) and self.status_code() == 0

    def record(self) -> dict[str, Any]:
        """Return what the stack wrote down about its processes."""
        try:
            record: dict[str, Any] = json.loads((self.state_dir / "run/stack.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return record

    def manage(
        self, *arguments: str, env: Mapping[str, str] = {}, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run another `manage.py` command beside the stack, with little set but STATE_DIR."""
        env = {**CLEAN_ENVIRONMENT, **env, "STATE_DIR": str(self.state_dir)}
        return subprocess.run(
            [*MANAGE, *arguments],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a `manage.py` command with all of the running stack's settings, quickly."""
        if self._commands is None:
            self._commands = Commands(self.env)
        return self._commands.run(*words)

    def status(self) -> dict[str, Any]:
        """Return `cluster status --json`."""
        status: dict[str, Any] = json.loads(self.run("cluster", "status", "--json").stdout)
        return status

    def part(self, name: str) -> dict[str, Any]:
        """Return one part of the status."""
        return next(part for part in self.status()["parts"] if part["name"] == name)

    def status_code(self) -> int:
        """Return the exit code of `cluster status`."""
        return self.manage("cluster", "status").returncode

    def output(self) -> str:
        """Return what `cluster up` printed so far."""
        try:
            return self.output_file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def url(self) -> str:
        """The public URL."""
        return str(self.record()["url"])

    @property
    def private_url(self) -> str:
        """The URL of HAProxy's statistics and metrics."""
        return f"http://127.0.0.1:{(urlsplit(self.url).port or 0) + STATS_PORT_OFFSET}"

    @property
    def database_url(self) -> str:
        """The URL of the database server that is the primary now."""
        return (self.state_dir / "run/database.url").read_text().strip()

    @property
    def replica_urls(self) -> dict[str, str]:
        """The URLs of the replicas by their names."""
        lines = (self.state_dir / "run/replicas.urls").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def admin_user(self) -> str:
        """The admin's name."""
        return "admin"

    @property
    def admin_password(self) -> str:
        """The admin's password."""
        return self.secrets["admin_password"]

    @property
    def demo_key(self) -> str:
        """The demo API key."""
        return self.secrets["demo_key"]

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The generated passwords and keys."""
        secrets: dict[str, str] = json.loads((self.state_dir / "secrets.json").read_text())
        return secrets


def free_public_port() -> int:
    """Return a port that is free, and whose statistics port is."""
    for port in random.sample(PUBLIC_PORTS, len(PUBLIC_PORTS)):
        if _is_free(port) and _is_free(port + STATS_PORT_OFFSET):
            return port
    raise StackFailed("no free port")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0 and _can_bind(probe, port)


def _can_bind(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


class SessionStack:
    """The stack of this test run, and whether to stop it at the end."""

    def __init__(self) -> None:
        self.stack: EmbeddedStack | None = None
        self.state_dir: Path | None = None
        self.is_ours = False
        self.is_temporary = False
        self.empty_directory = ""

    def prepare(self) -> None:
        """Set the environment of Django in this process."""
        kept = os.environ.get("HEADRACE_TEST_STATE_DIR")
        self.is_temporary = not kept
        self.state_dir = Path(kept or tempfile.mkdtemp(prefix="headrace-test-")).absolute()
        # Each process of a parallel run has its own.
        if kept and (worker := os.environ.get(WORKER_VARIABLE)):
            self.state_dir /= worker
        os.environ["STATE_DIR"] = str(self.state_dir)
        os.environ.update(STACK_ENV)

    def start(self) -> EmbeddedStack:
        """Return the stack of HEADRACE_TEST_STATE_DIR, or one that is started at the first call."""
        if self.stack is None:
            assert self.state_dir is not None
            stack = EmbeddedStack(self.state_dir, env=STACK_ENV)
            if stack.is_ready():
                STALLS.skip(self.state_dir)
            else:
                try:
                    stack.start()
                except BaseException:
                    # Such as the timeout of the test that uses it first.
                    stack.stop()
                    raise
                self.is_ours = True
            self.stack = stack
        return self.stack

    def make_empty_directory(self) -> str:
        """Return a new directory, which is removed at the end."""
        self.empty_directory = tempfile.mkdtemp(prefix="headrace-test-")
        return self.empty_directory

    def stop(self) -> None:
        """Stop what was started."""
        if self.empty_directory:
            shutil.rmtree(self.empty_directory, ignore_errors=True)
        if self.stack and self.is_ours:
            self.is_ours = False
            self.stack.stop()
        if self.state_dir and self.is_temporary:
            shutil.rmtree(self.state_dir, ignore_errors=True)


SESSION = SessionStack()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Start the stack before pytest-django, in the same hook, reads the settings."""
    options = early_config.known_args_namespace
    only_looks = ("collectonly", "help", "version", "markers", "showfixtures")
    if _shares_out_tests(options):
        # Django reads its settings here too.
        os.environ["STATE_DIR"] = SESSION.make_empty_directory()
    elif not any(getattr(options, name, False) for name in only_looks):
        SESSION.prepare()
        try:
            if options.markexpr != "faults":
                SESSION.start()
        except StackFailed as error:
            raise pytest.UsageError(f"the embedded stack did not start:\n{error}") from error
    try:
        return (yield)
    except BaseException:
        SESSION.stop()
        raise


def _shares_out_tests(options: argparse.Namespace) -> bool:
    return bool(getattr(options, "numprocesses", 0)) and WORKER_VARIABLE not in os.environ


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Read the stalls of the stack's event loops, and send them to the process that reports."""
    if SESSION.stack is not None:
        STALLS.collect(SESSION.stack.state_dir)
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["stalls"] = dict(STALLS.seconds)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the stalls that another process found."""
    STALLS.add(getattr(node, "workeroutput", {}).get("stalls", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the stalls of the stacks' event loops."""
    summarize(terminalreporter)


def pytest_unconfigure() -> None:
    """Stop the stack, also after Ctrl-C."""
    SESSION.stop()


@pytest.fixture(scope="session")
def stack() -> EmbeddedStack:
    """The running stack of this test run: `.url`, `.demo_key`, `.status()` and more."""
    return SESSION.start()
