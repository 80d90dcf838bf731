"""Run supervisord, and speak to it: a typed adapter to its XML-RPC.

supervisord starts the processes, restarts them with backoff, gives up on those that cannot start,
writes their logs and stops them. It lives in its own session, so that Ctrl-C in the terminal
reaches only `cluster up`, which stops the processes in order.
"""

import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ProtocolError, ServerProxy

from supervisor.xmlrpc import Faults, SupervisorTransport, UnixStreamHTTPConnection

from fleet.cluster.errors import ClusterError, ProcessFailed
from fleet.cluster.paths import Layout, write_private
from fleet.cluster.privileges import is_root
from fleet.cluster.processes import ProcessSpec, Program, python_module, render

PROGRAM = "fleet.cluster.supervisord_program"
START_SECONDS = 10.0
# No call waits for a process; a machine that swaps may be slow all the same.
CALL_SECONDS = 15.0
# supervisord kills a process long before, and its end takes a moment.
STOPPING_SECONDS = 60.0
STOPPING_STEP_SECONDS = 0.02


class SupervisorGone(ClusterError):
    """supervisord does not answer: it ended, or was killed."""


class SupervisorRefused(ClusterError):
    """supervisord refused a call; `code` is one of its `Faults`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"supervisord refused: {fault.faultString}.")
        self.code = fault.faultCode


@dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    """supervisord's state of one process; `pid` is 0 while it has none."""

    name: str
    state: str
    pid: int
    started_at: float
    problem: str

    @property
    def is_fatal(self) -> bool:
        """supervisord gave up on it."""
        return self.state == "fatal"

    @property
    def is_stopping(self) -> bool:
        """It has its stop signal, and has not ended."""
        return self.state == "stopping"

    @property
    def is_stopped(self) -> bool:
        """It neither runs nor will be started again."""
        return self.state in {"stopped", "fatal", "unknown"}


class _Connection(UnixStreamHTTPConnection):  # type: ignore[misc]  # it has no types
    """A connection that does not wait for ever, as Supervisor's own does."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Connect to supervisord."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CALL_SECONDS)
        self.sock.connect(str(self._path))


class Supervisord:
    """One supervisord; a call raises `SupervisorGone` without an answer, or `SupervisorRefused`."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._transport = SupervisorTransport(None, None, f"unix://{layout.supervisor_socket}")
        self._transport._get_connection = lambda: _Connection(layout.supervisor_socket)
        self._server = ServerProxy("http://localhost", transport=self._transport)

    def start(self) -> subprocess.Popen[bytes]:
        """Start supervisord without any process, and wait until it answers."""
        config = self.layout.run_dir / "supervisord.conf"
        write_private(config, self._config())
        output = self.layout.log_dir / "supervisord.out"
        with output.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - a command of our own
                python_module(PROGRAM, "-n", "-c", str(config)),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_alive():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                text = output.read_text(encoding="utf-8", errors="replace")
                raise ClusterError(f"supervisord did not start: {text.strip()[-500:]}")
            time.sleep(0.02)
        return process

    def is_alive(self) -> bool:
        """Return whether supervisord answers."""
        try:
            self._call("getState")
        except SupervisorGone:
            return False
        return True

    def pid(self) -> int:
        """Return supervisord's own pid."""
        return int(self._call("getPID"))

    def add(self, spec: ProcessSpec, program: Program) -> None:
        """Write a process's configuration and start it."""
        self.describe(spec, program)
        self._call("reloadConfig")
        self._call("addProcessGroup", spec.name)

    def describe(self, spec: ProcessSpec, program: Program) -> None:
        """Write a process's configuration, which also has the process's kind."""
        path = self.layout.specs_dir / f"{spec.name}.conf"
        write_private(path, render(spec, program, log_file=self.layout.log_file(spec.name)))

    def remove(self, name: str) -> None:
        """Remove a process that is stopped."""
        (self.layout.specs_dir / f"{name}.conf").unlink(missing_ok=True)
        self._call("removeProcessGroup", name)

    def request_stop(self, name: str) -> None:
        """Send a process its stop signal without waiting; one that is not running is fine."""
        try:
            self._call("stopProcess", name, False)
        except SupervisorRefused as refusal:
            if refusal.code not in (Faults.NOT_RUNNING, Faults.BAD_NAME):
                raise

    def start_again(self, name: str) -> None:
        """Start a process that was stopped, once it has ended; one that runs is fine."""
        deadline = time.monotonic() + STOPPING_SECONDS
        # supervisord cannot start what it still stops: it answers with an error of its own.
        while (found := self.find(name)) is not None and found.is_stopping:
            if time.monotonic() > deadline:
                raise ProcessFailed(name, f"{name} did not stop in {STOPPING_SECONDS:.0f} s.")
            time.sleep(STOPPING_STEP_SECONDS)
        try:
            self._call("startProcess", name, False)
        except SupervisorRefused as refusal:
            if refusal.code != Faults.ALREADY_STARTED:
                raise

    def find(self, name: str) -> "ProcessInfo | None":
        """Return the state of one process, or None when there is no such process."""
        return next((process for process in self.processes() if process.name == name), None)

    def processes(self) -> list[ProcessInfo]:
        """Return the state of every process."""
        return [
            ProcessInfo(
                name=info["name"],
                state=info["statename"].lower(),
                pid=info["pid"],
                started_at=info["start"],
                problem=info["spawnerr"],
            )
            for info in self._call("getAllProcessInfo")
        ]

    def shutdown(self) -> None:
        """End supervisord, which stops what still runs."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any) -> Any:
        call: Callable[..., Any] = getattr(self._server.supervisor, method)
        try:
            return call(*arguments)
        except Fault as fault:
            raise SupervisorRefused(fault) from fault
        except (OSError, HTTPException, ProtocolError) as error:
            # A connection that broke half-way would refuse the next call too.
            self._transport.close()
            raise SupervisorGone("supervisord does not answer") from error

    def _config(self) -> str:
        run_dir = _escaped(self.layout.run_dir)
        lines = [
            "[supervisord]",
            f"logfile={_escaped(self.layout.log_dir / 'supervisord.log')}",
            "logfile_maxbytes=1MB",
            "logfile_backups=1",
            f"pidfile={run_dir}/supervisord.pid",
            "umask=077",
            "nocleanup=true",
            "silent=true",
            # Named, root is a choice and not an oversight that needs a warning.
            *(["user=root"] if is_root() else []),
            "[unix_http_server]",
            f"file={_escaped(self.layout.supervisor_socket)}",
            "chmod=0600",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            "[include]",
            # Relative to this file, because the pattern is split at spaces.
            "files=../supervisor.d/*.conf",
        ]
        return "\n".join(lines) + "\n"


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")
