"""The identity and program of a process of the stack, and the order in which processes stop."""

import configparser
import shlex
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from django.conf import settings

from scaling.scrape import ScrapeError, fetch

# Those that use others stop before those that are used.
STOP_ORDER = ("autoscaler", "haproxy", "node", "worker", "llm", "redis", "replica", "primary")
LOG_BYTES = 10 * 1024 * 1024
LOG_BACKUPS = 3
CHECK_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """A process's identity: `kind` is one of `STOP_ORDER`, `address` is `host:port`."""

    name: str
    kind: str
    address: str


@dataclass(frozen=True, kw_only=True)
class Program:
    """The command and options with which supervisord runs a process.

    `stop_signal` requests its end; after `stop_seconds` it is killed, with its children.
    """

    command: list[str]
    stop_signal: str = "TERM"
    stop_seconds: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = settings.BASE_DIR


class ManagedProcess(Protocol):
    """One process of the stack; each kind is one module."""

    @property
    def id(self) -> ProcessSpec:
        """Name, kind and address."""

    def program(self) -> Program:
        """Write the process's configuration files and return how to run it."""

    def is_ready(self) -> bool:
        """Return whether the process does its work; never raises because it does not."""


def render(spec: ProcessSpec, program: Program, *, log_file: Path) -> str:
    """Return supervisord's configuration of one process.

    `startsecs` and `startretries` make supervisord give up (FATAL) on a process that cannot start;
    one that lives a little longer each time is for `watch` to notice. supervisord passes over the
    section that begins with `part:`; it is for `read`.
    """
    environment = ",".join(f'{name}="{value}"' for name, value in program.environment.items())
    options = {
        "command": shlex.join(program.command),
        "directory": str(program.directory),
        "environment": environment,
        "autorestart": "true",
        "startsecs": "1",
        "startretries": "3",
        "stopsignal": program.stop_signal,
        "stopwaitsecs": str(program.stop_seconds),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": str(log_file),
        "stdout_logfile_maxbytes": str(LOG_BYTES),
        "stdout_logfile_backups": str(LOG_BACKUPS),
    }
    lines = [f"[program:{spec.name}]"]
    # supervisord expands %(...)s in every value.
    lines += [f"{name}={value.replace('%', '%%')}" for name, value in options.items()]
    lines += [f"[part:{spec.name}]", f"kind={spec.kind}", f"address={spec.address}"]
    return "\n".join(lines) + "\n"


def read(path: Path) -> ProcessSpec:
    """Return whose configuration a file is."""
    parser = configparser.RawConfigParser()
    parser.read(path, encoding="utf-8")
    name = path.stem
    return ProcessSpec(
        name=name,
        kind=parser.get(f"part:{name}", "kind"),
        address=parser.get(f"part:{name}", "address"),
    )


def read_all(directory: Path) -> list[ProcessSpec]:
    """Return the processes that exist, in the order in which they depend on each other."""
    found = [read(path) for path in sorted(directory.glob("*.conf"))]
    return sorted(found, key=lambda spec: (-STOP_ORDER.index(spec.kind), spec.name))


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command line of one of our own or installed modules in this virtualenv."""
    return [sys.executable, "-m", module, *arguments]


def accepts(address: str) -> bool:
    """Return whether something accepts connections at an address."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=CHECK_TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True


def answers(address: str, path: str) -> bool:
    """Return whether a GET is answered with 200."""
    try:
        fetch(f"http://{address}{path}", timeout_seconds=CHECK_TIMEOUT_SECONDS)
    except ScrapeError:
        return False
    return True
