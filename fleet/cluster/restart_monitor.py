"""Detects, between two looks at the processes, those that died and those that fail repeatedly."""

from collections.abc import Iterable
from dataclasses import dataclass

from fleet.cluster.supervisord import ProcessInfo

# supervisord itself gives up on a process that does not live a second. One that lives a little
# longer would be restarted for ever.
SHORT_LIFE_SECONDS = 10.0
MAX_SHORT_LIVES = 5


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that happened to a process; `is_final` when it is not worth restarting it again."""

    process: str
    text: str
    is_final: bool = False


@dataclass(kw_only=True)
class _Seen:
    pid: int
    since: float
    is_down: bool = False
    restarts: int = 0
    short_lives: int = 0

    def end(self, now: float) -> None:
        """Record that the process of `pid` has ended."""
        self.is_down = True
        self.short_lives = self.short_lives + 1 if now - self.since < SHORT_LIFE_SECONDS else 0

    def begin(self, pid: int, now: float) -> None:
        """Record that there is a new process."""
        self.pid, self.since, self.is_down = pid, now, False


class Watch:
    """The state of the processes at the last look. A process that was stopped has not died."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    @property
    def restarts(self) -> dict[str, int]:
        """The number of restarts by process."""
        return {name: seen.restarts for name, seen in self._seen.items()}

    def observe(self, processes: Iterable[ProcessInfo], *, now: float) -> list[Change]:
        """Return what changed since the last look; `now` is a monotonic clock in seconds."""
        changes = []
        processes = list(processes)
        # One that was removed may come back under its name, and has not died in between.
        names = {process.name for process in processes}
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        for process in processes:
            seen = self._seen.setdefault(process.name, _Seen(pid=process.pid, since=now))
            if process.is_fatal:
                changes.append(Change(process=process.name, text="fails repeatedly", is_final=True))
            elif process.state in {"stopping", "stopped"}:
                seen.begin(0, now)
            elif process.pid == 0:
                changes += _ended(seen, process, now)
            elif process.pid != seen.pid:
                changes += _began(seen, process, now)
        return changes


def _ended(seen: _Seen, process: ProcessInfo, now: float) -> list[Change]:
    if seen.is_down:
        return []
    seen.end(now)
    why = process.problem or "it ended"
    return [Change(process=process.name, text=f"died ({why}); starting it again")]


def _began(seen: _Seen, process: ProcessInfo, now: float) -> list[Change]:
    if seen.pid and not seen.is_down:
        # It died and came back between two looks.
        seen.end(now)
    is_restart = seen.is_down
    seen.begin(process.pid, now)
    if not is_restart:
        return []
    seen.restarts += 1
    if seen.short_lives >= MAX_SHORT_LIVES:
        return [Change(process=process.name, text="fails repeatedly", is_final=True)]
    return [
        Change(process=process.name, text=f"died and was started again (process {process.pid})")
    ]
