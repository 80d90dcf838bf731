"""The autoscaler as a process of the stack: it changes the stack that runs it."""

import sys
from dataclasses import dataclass

from django.conf import settings

from fleet.cluster.ports import address
from fleet.cluster.privileges import watched
from fleet.cluster.processes import ProcessSpec, Program, answers

STOP_SIGNAL = "TERM"


@dataclass(frozen=True, kw_only=True)
class Autoscaler:
    """`manage.py autoscale`, which serves its metrics at its address."""

    id: ProcessSpec

    def program(self) -> Program:
        """Return its command; all else is inherited or read from `stack.env`."""
        return Program(
            command=[
                *watched(STOP_SIGNAL),
                *(sys.executable, str(settings.BASE_DIR / "manage.py"), "autoscale", "run"),
            ],
            stop_signal=STOP_SIGNAL,
            environment={"AUTOSCALE_BIND": self.id.address, "STATE_DIR": str(settings.STATE_DIR)},
        )

    def is_ready(self) -> bool:
        """Return whether its loop runs."""
        return answers(self.id.address, "/metrics")


def autoscaler_id(port: int) -> ProcessSpec:
    """Return its name, kind and address."""
    return ProcessSpec(name="autoscaler", kind="autoscaler", address=address(port))
