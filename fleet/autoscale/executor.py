"""Runs a decision in a thread, while the loop goes on measuring and renewing its lease."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from fleet.autoscale.actuators import Actuator
from fleet.autoscale.errors import ActuatorError
from fleet.autoscale.metrics import FAILURES

logger = logging.getLogger(__name__)


class ActionExecutor:
    """At most one change at a time."""

    def __init__(self, actuator: Actuator) -> None:
        self.actuator = actuator
        self._thread: threading.Thread | None = None
        self._error = ""

    @property
    def is_busy(self) -> bool:
        """Whether a change is under way."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, targets: Mapping[str, int]) -> None:
        """Begin a change; call it only when none is under way."""
        # Shrinking waits for streams. A process with a stop signal does not wait for it.
        self._thread = threading.Thread(target=self._run, args=[targets], daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end of a change; return whether none is under way."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.is_busy

    def take_error(self) -> str:
        """Return once why the last change failed; empty when it did not, or is under way."""
        if self.is_busy:
            return ""
        error, self._error = self._error, ""
        return error

    def _run(self, targets: Mapping[str, int]) -> None:
        try:
            self.actuator.scale(targets)
        except ActuatorError as error:
            FAILURES.labels("act").inc()
            self._error = str(error)
        # The outermost frame of a thread: no caller would see it.
        except Exception as error:
            logger.exception("scaling failed")
            FAILURES.labels("act").inc()
            self._error = repr(error)
