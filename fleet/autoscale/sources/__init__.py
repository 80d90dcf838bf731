"""Sources of measurements: plug-ins, named by dotted path in AUTOSCALE_SOURCE.

`embedded.EmbeddedSource` is the embedded stack's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fleet.autoscale.errors import MeasureError

T = TypeVar("T")

# Each measure's value for a node or worker of a fleet (policies.MEASURES).
Values = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Values by fleet, and why some are missing."""

    values: Mapping[str, Values]
    problems: tuple[str, ...] = ()


class Source(Protocol):
    """A way to measure. Rates need two readings, so that the first has none."""

    def measure(self, sizes: Mapping[str, int]) -> Measured:
        """Return the values of fleets of these sizes; what cannot be measured is left out."""


def attempt(read: Callable[[], T], problems: list[str]) -> T | None:
    """Return the result of `read`; on failure add to `problems` and return None."""
    try:
        return read()
    except MeasureError as error:
        problems.append(str(error))
        return None
