"""The terminal's output: a line an event, and the logs of all processes."""

import os
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import TextIO

from fleet.cluster.errors import StopRequested

WIDTH = len("postgres1")
OWN_NAME = "headrace"
# ANSI colours, one a kind of process.
COLOURS = {
    "haproxy": "35",
    "autoscaler": "36",
    "node": "32",
    "worker": "33",
    "postgres": "34",
    "redis": "31",
    "llm": "95",
    OWN_NAME: "1",
}


@dataclass(kw_only=True)
class Console:
    """Lines with the process's name in front, coloured on a terminal and plain in a pipe."""

    stream: TextIO
    has_colours: bool
    is_closed: bool = False

    def print(self, text: str, *, process: str = OWN_NAME) -> None:
        """Write one line of a process, or of the stack itself."""
        prefix = f"{process:<{WIDTH}} |"
        colour = COLOURS.get(process.rstrip("0123456789"))
        if self.has_colours and colour:
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        self._write(f"{prefix} {text}\n")

    def block(self, text: str) -> None:
        """Write a text as it is."""
        self._write(f"\n{text}\n\n")

    def _write(self, text: str) -> None:
        if self.is_closed:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:
            # No reader is left, as in `make run | head`: stop, and in silence.
            self.is_closed = True
            raise StopRequested from None
        except OSError:
            # As on a full disk: the line is lost, and the stack runs on.
            return


@dataclass
class LogFollower:
    """Read what is added to a log file, over its rotations, and nothing that was there before."""

    path: Path
    _file: BufferedReader | None = field(default=None, init=False)
    _rest: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        if self.path.exists():
            self._file = self.path.open("rb")
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> list[str]:
        """Return the complete lines that were added since the last call."""
        data = self._rest + self._read()
        *whole, self._rest = data.split(b"\n")
        return [line.decode("utf-8", errors="replace").rstrip("\r") for line in whole]

    def _read(self) -> bytes:
        data = self._file.read() if self._file else b""
        if self._is_current():
            return data
        # The old file was read to its end above; the new one begins.
        if self._file:
            self._file.close()
        try:
            self._file = self.path.open("rb")
        except FileNotFoundError:
            self._file = None
            return data
        return data + self._file.read()

    def _is_current(self) -> bool:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return True
        if self._file is None:
            return False
        opened = os.fstat(self._file.fileno())
        return opened.st_ino == found.st_ino and found.st_size >= self._file.tell()


def last_lines(path: Path, count: int) -> list[str]:
    """Return the end of a log file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return text.splitlines()[-count:]
