"""A history of clients' writes and reads, and a pure checker of it.

A subject is one thing that can be read, such as the metadata of a conversation or the list of an
account's jobs. It is a number that is only ever raised, or a set of ids that only grows. A write
raises the number to its value or adds its id. What is promised is that a read shows every write of
its subject that was acknowledged before the read began. A write that got no good answer may or may
not have been done, so that a read may show it or not.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """An acknowledged write; times are time.monotonic() of one machine."""

    subject: str
    value: int | str
    began: float
    ended: float
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A read of a subject; one that is not found is -1 or the empty set."""

    subject: str
    shown: int | frozenset[str]
    began: float
    ended: float
    client: str = ""

    def shows(self, write: Write) -> bool:
        """Return whether this could not have been read without the write."""
        if isinstance(self.shown, int):
            return isinstance(write.value, int) and self.shown >= write.value
        return write.value in self.shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The end of a request; `problem` is empty for an answer that a client must expect."""

    kind: str
    client: str
    status: int
    began: float
    ended: float
    problem: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the request did what it was for."""
        return 200 <= self.status < 300


@dataclass(slots=True)
class History:
    """All that clients saw; may be written by many threads."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Missed:
    """A read that does not show a write which was acknowledged before it began."""

    read: Read
    write: Write

    @property
    def seconds(self) -> float:
        """Seconds from the write's acknowledgement to the read."""
        return self.read.began - self.write.ended

    def __str__(self) -> str:
        shown = self.read.shown if isinstance(self.read.shown, int) else len(self.read.shown)
        return (
            f"{self.read.began:.3f} {self.read.client} read {self.read.subject} and was shown"
            f" {shown}, without {self.write.value}, which {self.write.client} had been told"
            f" {self.seconds:.3f} s before"
        )


def missed(writes: Iterable[Write], reads: Iterable[Read]) -> list[Missed]:
    """Return every pair of a read and a write before it that it does not show."""
    written: dict[str, list[Write]] = defaultdict(list)
    for write in writes:
        written[write.subject].append(write)
    return [
        Missed(read, write)
        for read in reads
        for write in written[read.subject]
        if write.ended < read.began and not read.shows(write)
    ]


def without(found: Iterable[Missed], may_be_lost: Callable[[Write], bool]) -> list[Missed]:
    """Leave out the writes that may be lost."""
    return [miss for miss in found if not may_be_lost(miss.write)]


def longest_gap(answers: Iterable[Answer], *, began: float, ended: float) -> tuple[float, float]:
    """Return the longest time without a success between two moments, and when it began."""
    ends = sorted(a.ended for a in answers if a.is_success and began < a.ended < ended)
    edges = [began, *ends, ended]
    return max((after - before, before) for before, after in itertools.pairwise(edges))
