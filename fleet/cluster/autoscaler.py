"""The autoscaler as a part: it changes the stack that runs it."""

import sys
from dataclasses import dataclass

from django.conf import settings

from fleet.cluster.parts import PartId, Program, answers
from fleet.cluster.ports import address
from fleet.cluster.privileges import watched

STOP_SIGNAL = "TERM"


@dataclass(frozen=True, kw_only=True)
class Autoscaler:
    """`manage.py autoscale`, which serves its metrics at its address."""

    id: PartId

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


def autoscaler_id(port: int) -> PartId:
    """Return its name, kind and address."""
    return PartId(name="autoscaler", kind="autoscaler", address=address(port))
