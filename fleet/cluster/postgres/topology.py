"""The record of which servers there are, and which of them is the primary.

It outlives the stack. A promotion changes it before the server itself is promoted: a command that
finds the recorded primary still in recovery, promotes it.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from fleet.cluster.errors import ClusterError
from fleet.cluster.paths import write_private

MAX_REPLICAS = 8
NAME = re.compile(r"postgres([1-9][0-9]?)")


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Servers by name: one takes the writes, the others follow it."""

    primary: str = "postgres1"
    replicas: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Every server, the primary first."""
        return [self.primary, *self.replicas]

    def next_name(self) -> str:
        """Return the lowest name that is free; raise `ClusterError` when there are enough."""
        if len(self.replicas) >= MAX_REPLICAS:
            raise ClusterError(f"There are {MAX_REPLICAS} replicas, and more are not supported.")
        return next(
            name for number in range(1, 100) if (name := f"postgres{number}") not in self.names
        )

    def resized(self, count: int) -> Self:
        """Return it with so many replicas: the last ones go, and new ones come."""
        changed = replace(self, replicas=self.replicas[:count])
        while len(changed.replicas) < count:
            changed = changed.with_replica(changed.next_name())
        return changed

    def with_replica(self, name: str) -> Self:
        """Return it with one replica more."""
        return replace(self, replicas=tuple(sorted({*self.replicas, name}, key=number_of)))

    def without(self, name: str) -> Self:
        """Return it with one replica less."""
        return replace(self, replicas=tuple(other for other in self.replicas if other != name))

    def promoted(self, name: str) -> Self:
        """Return it with another primary; the old one becomes a replica."""
        if name == self.primary:
            return self
        return replace(self.without(name), primary=name).with_replica(self.primary)

    def save(self, path: Path) -> None:
        """Write the record in one step."""
        text = json.dumps({"primary": self.primary, "replicas": self.replicas}, indent=2)
        write_private(path, text + "\n")


def load(path: Path) -> Topology | None:
    """Return the record, or None when there is none yet."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Topology(primary=data["primary"], replicas=tuple(data["replicas"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"cannot read {path}, which names the primary: {error}") from error


def number_of(name: str) -> int:
    """Return a server's number; raise `ClusterError` for what is no server's name."""
    match = NAME.fullmatch(name)
    if match is None:
        raise ClusterError(f"{name!r} is no server's name; they look like postgres2.")
    return int(match[1])
