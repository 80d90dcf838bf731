"""The record of what runs: for `cluster status`, and to clean up after a `kill -9`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from fleet.cluster.paths import write_private


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """Return the identity of a living process."""
        try:
            return cls(pid=pid, created=psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    def find(self) -> psutil.Process | None:
        """Return the process when it still lives and is the one meant."""
        try:
            process = psutil.Process(self.pid)
            # The kernel counts in ticks of 10 ms from a start whose wall clock may be adjusted.
            if abs(process.create_time() - self.created) > 1.0:
                return None
            return process if process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


@dataclass(kw_only=True)
class StackRecord:
    """The processes of one `cluster up`, itself `pid`; rewritten at each change."""

    pid: int
    url: str
    is_ready: bool = False
    supervisord: ProcessId | None = None
    processes: dict[str, ProcessId] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the record in one step."""
        write_private(path, json.dumps(asdict(self)) + "\n")


def load(path: Path) -> StackRecord | None:
    """Return the last record, or None when there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return StackRecord(
        pid=data["pid"],
        url=data["url"],
        is_ready=data["is_ready"],
        supervisord=ProcessId(**data["supervisord"]) if data["supervisord"] else None,
        processes={name: ProcessId(**value) for name, value in data["processes"].items()},
        restarts=data["restarts"],
    )
