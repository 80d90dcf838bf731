"""Actuators, which carry decisions out: plug-ins, named in AUTOSCALE_ACTUATOR.

`embedded` scales the stack of `cluster up`, `compose` a Docker Compose project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Actuator(Protocol):
    """The fleets of one platform. Every method may raise `ActuatorError`."""

    def sizes(self) -> Mapping[str, int]:
        """Return the size that each fleet is meant to have now."""

    def scale(self, targets: Mapping[str, int]) -> None:
        """Change the sizes of fleets, and return when it is done.

        A node or worker that leaves finishes its work first. Fleets without a target stay.
        """
