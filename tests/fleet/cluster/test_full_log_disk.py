"""Processes that write logs go on when nothing can be written.

tests/faults/machine has a stack whose disk of logs is full.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from supervisor import loggers

from fleet.cluster.console import Console
from fleet.cluster.supervisord_program import LossyStream, PatientRotatingFileHandler


@pytest.fixture
def full() -> Iterator[TextIO]:
    """A file on a full disk."""
    file = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115
    yield file
    with contextlib.suppress(OSError):
        file.close()


def test_the_console_loses_lines_and_goes_on(full: TextIO) -> None:
    console = Console(stream=full, has_colours=False)
    console.print("lost")
    console.block("lost")
    assert not console.is_closed


def test_a_lossy_stream_raises_nothing(full: TextIO) -> None:
    stream = LossyStream(full)
    assert stream.write("x" * 100_000) == 100_000
    stream.flush()


def test_a_log_goes_on_after_a_rotation_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "part.log"
    handler = PatientRotatingFileHandler(str(log), maxBytes=10, backupCount=1)

    def fail(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.rename", fail)
    record = loggers.LogRecord(loggers.LevelsByName.INFO, b"more than ten bytes\n")
    handler.emit(record)
    monkeypatch.undo()
    handler.emit(record)
    handler.emit(record)
    handler.close()
    assert (tmp_path / "part.log.1").read_bytes().count(b"\n") >= 1
