"""What carries a decision out. An actuator is a plug-in, named in AUTOSCALE_ACTUATOR.

`embedded` scales the stack of `cluster up`, `compose` a Docker Compose project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Actuator(Protocol):
    """The fleets of one place. Every method may raise `ActuatorError`."""

    def sizes(self) -> Mapping[str, int]:
        """Return how many members each fleet is meant to have now."""

    def scale(self, targets: Mapping[str, int]) -> None:
        """Give fleets new sizes, and return when it is done.

        A member that goes finishes what it has first. Fleets that are not named stay.
        """
