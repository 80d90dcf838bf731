"""A worker: one process that runs background jobs."""

from dataclasses import dataclass

from django.conf import settings

from config.env import env_float
from fleet.cluster import overrides
from fleet.cluster.paths import Layout
from fleet.cluster.ports import address
from fleet.cluster.privileges import watched
from fleet.cluster.processes import ProcessSpec, Program, answers, python_module

STOP_SIGNAL = "TERM"
# Shorter than in production, where no user waits at a terminal.
GRACE_SECONDS = env_float("EMBEDDED_JOB_GRACE_SECONDS", 2.0)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One worker; it needs no load balancer, the broker and the database feed it."""

    id: ProcessSpec

    def program(self) -> Program:
        """Return the worker's command; all else is inherited or read from `stack.env`."""
        return Program(
            command=[*watched(STOP_SIGNAL), *python_module("jobs.worker")],
            stop_signal=STOP_SIGNAL,
            stop_seconds=int(GRACE_SECONDS) + 8,
            environment={
                **overrides.load(Layout(state_dir=settings.STATE_DIR)),
                "WORKER_NAME": self.id.name,
                "WORKER_BIND": self.id.address,
                "JOB_GRACE_SECONDS": str(GRACE_SECONDS),
                "STATE_DIR": str(settings.STATE_DIR),
            },
        )

    def is_ready(self) -> bool:
        """Return whether the worker takes jobs."""
        return answers(self.id.address, "/health/ready")


def worker_id(number: int, port: int) -> ProcessSpec:
    """Return a worker's name, kind and address."""
    return ProcessSpec(name=f"worker{number}", kind="worker", address=address(port))
