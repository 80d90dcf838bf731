"""Scale the services of a Docker Compose project, by the command line of Compose.

Compose itself talks to the Engine API's socket. It starts and removes containers, the newest first;
one that goes gets SIGTERM and drains within the service's `stop_grace_period`.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping

from django.conf import settings

from fleet.autoscale.errors import ActuatorError
from fleet.autoscale.policies import WEB, WORKERS

SERVICES = {WEB: "web", WORKERS: "worker"}
COUNT_SECONDS = 30.0
# Shrinking waits for the containers that go.
SCALE_SECONDS = 900.0


class Compose:
    """The project that AUTOSCALE_COMPOSE leads to, as in `docker compose -f FILE -p NAME`."""

    def __init__(self) -> None:
        self._command = shlex.split(settings.AUTOSCALE_COMPOSE)

    def sizes(self) -> Mapping[str, int]:
        """Return how many containers of each service run; also those that are not healthy."""
        return {
            fleet: len(self._run("ps", "-q", service, seconds=COUNT_SECONDS).split())
            for fleet, service in SERVICES.items()
        }

    def scale(self, targets: Mapping[str, int]) -> None:
        """Bring the services to these numbers, without touching the containers that stay."""
        options = [f"--scale={SERVICES[fleet]}={size}" for fleet, size in targets.items()]
        services = [SERVICES[fleet] for fleet in targets]
        # A service that is not named here would be scaled back to the file's own number.
        self._run(
            *("up", "--detach", "--no-deps", "--no-recreate", *options, *services),
            seconds=SCALE_SECONDS,
        )

    def _run(self, *arguments: str, seconds: float) -> str:
        command = [*self._command, *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command
                command, capture_output=True, text=True, check=False, timeout=seconds
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ActuatorError(f"{shlex.join(command)}: {error}") from error
        if done.returncode:
            text = done.stderr.strip().splitlines()
            raise ActuatorError(f"{shlex.join(command)}: {text[-1] if text else done.returncode}")
        return done.stdout
