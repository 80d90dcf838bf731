"""A client of HAProxy's Runtime API: fill, drain and empty the server slots of a backend.

Ours, because haproxyadmin is untyped and judges answers by a list of the sentences of HAProxy 1.5:
HAProxy reports a refusal as mere text, and an unknown one must not pass for success (ADR 2).
Source: https://docs.haproxy.org/2.8/management.html#9.3
"""

import os
import socket
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from config.deadline_socket import Deadline, DeadlineSocket

BACKEND = "web"
TIMEOUT_SECONDS = 3.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024
# Flags and states of `show servers state`.
FORCED_MAINTENANCE = 0x01
DRAIN = 0x08 | 0x10
# Starting (up, with fewer requests at first), running, and stopping.
UP_STATES = {"1", "2", "3"}


class HAProxyError(Exception):
    """A command to HAProxy failed."""


class HAProxyUnavailable(HAProxyError):
    """The Runtime API's socket does not answer; a retry may help."""


class HAProxyRefused(HAProxyError):
    """HAProxy did not accept a command; trying again does not help."""

    def __init__(self, command: str, answer: str) -> None:
        super().__init__(f"HAProxy refused {command!r}: {answer}")
        self.command = command
        self.answer = answer


class ServerState(Enum):
    """The administrative state of a server."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True, kw_only=True)
class Server:
    """One slot of the backend; `is_up` is what the health checks say."""

    name: str
    host: str
    port: int
    state: ServerState
    is_up: bool


class RuntimeApi:
    """The Runtime API behind one unix socket.

    Every method raises `HAProxyUnavailable` or `HAProxyRefused`. After each change the servers are
    written to `state_file`, from which HAProxy reads them when it starts again.
    """

    def __init__(
        self, path: Path, *, backend: str = BACKEND, state_file: Path | None = None
    ) -> None:
        self.path = path
        self.backend = backend
        self.state_file = state_file

    def servers(self) -> list[Server]:
        """Return every slot of the backend, used or not."""
        return _parse_servers(self._run(f"show servers state {self.backend}"))

    def add(self, name: str, *, host: str, port: int) -> None:
        """Set the slot's address and state `ready`."""
        command = f"set server {self._slot(name)} addr {host} port {port}"
        answer = self._run(command)
        # Both a change and the lack of one are reported by a sentence that names its source.
        if "by 'stats socket command'" not in answer or answer.startswith("Invalid"):
            raise HAProxyRefused(command, answer)
        self.set_state(name, ServerState.READY)

    def set_state(self, name: str, state: ServerState) -> None:
        """Set the slot's state: take requests, only finish those it has, or do nothing."""
        command = f"set server {self._slot(name)} state {state.value}"
        # Success says nothing.
        if answer := self._run(command):
            raise HAProxyRefused(command, answer)
        self.save_state()

    def save_state(self) -> None:
        """Write the servers down for HAProxy's next start."""
        if self.state_file is None:
            return
        text = self._run("show servers state")
        if not text.startswith("1\n"):
            raise HAProxyRefused("show servers state", text)
        handle, name = tempfile.mkstemp(dir=self.state_file.parent, prefix=".haproxy.state.")
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text + "\n")
            Path(name).replace(self.state_file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _slot(self, name: str) -> str:
        return f"{self.backend}/{name}"

    def _run(self, command: str) -> str:
        if "\n" in command or ";" in command:
            raise HAProxyRefused(command, "a command is one line")
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT_SECONDS)
                connection.connect(os.fspath(self.path))
                bounded = DeadlineSocket(
                    connection, Deadline(TIMEOUT_SECONDS), max_bytes=MAX_ANSWER_BYTES
                )
                bounded.sendall(f"{command}\n".encode())
                answer = bounded.makefile("rb").read()
        except OSError as error:
            raise HAProxyUnavailable(f"HAProxy does not answer at {self.path}: {error}") from error
        return answer.decode("utf-8", errors="replace").strip()


def _parse_servers(text: str) -> list[Server]:
    version, _, table = text.partition("\n")
    lines = table.splitlines()
    if version != "1" or not lines or not lines[0].startswith("# "):
        raise HAProxyRefused("show servers state", text)
    columns = lines[0][2:].split()
    rows = [dict(zip(columns, line.split(), strict=False)) for line in lines[1:]]
    return [
        Server(
            name=row["srv_name"],
            host=row["srv_addr"],
            port=int(row["srv_port"]),
            state=_admin_state(int(row["srv_admin_state"])),
            is_up=row["srv_op_state"] in UP_STATES,
        )
        for row in rows
    ]


def _admin_state(flags: int) -> ServerState:
    # 0x04 says that haproxy.cfg disabled the slot; it stays set when the Runtime API enabled it,
    # and only together with 0x01 does the slot still rest.
    if flags & FORCED_MAINTENANCE:
        return ServerState.MAINT
    return ServerState.DRAIN if flags & DRAIN else ServerState.READY
