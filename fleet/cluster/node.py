"""A gunicorn node: one process that answers HTTP, behind HAProxy."""

import runpy
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from config.env import env_str
from fleet.cluster import overrides
from fleet.cluster.paths import Layout
from fleet.cluster.ports import address
from fleet.cluster.privileges import watched
from fleet.cluster.processes import ProcessSpec, Program, answers, python_module

STOP_SIGNAL = "TERM"
# Benchmarks put something of theirs in front.
APPLICATION = env_str("EMBEDDED_WSGI", "config.wsgi")
GUNICORN_CONFIG = settings.BASE_DIR / "config" / "gunicorn.conf.py"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One gunicorn with its workers; its HAProxy server has the same name."""

    id: ProcessSpec

    def program(self) -> Program:
        """Return gunicorn's command; all else is inherited or read from `stack.env`."""
        layout = Layout(state_dir=settings.STATE_DIR)
        return Program(
            command=[
                *watched(STOP_SIGNAL),
                *python_module("gunicorn", "--config", str(GUNICORN_CONFIG), APPLICATION),
            ],
            stop_signal=STOP_SIGNAL,
            stop_seconds=max_stop_seconds(),
            environment={
                **overrides.load(layout),
                "NODE_NAME": self.id.name,
                "BIND": self.id.address,
                "DRAIN_FILE": str(layout.drain_file(self.id.name)),
                "STATE_DIR": str(settings.STATE_DIR),
            },
        )

    def is_ready(self) -> bool:
        """Return whether the node can answer real requests, database included."""
        return answers(self.id.address, "/health/ready")


def node_id(number: int, port: int) -> ProcessSpec:
    """Return a node's name, kind and address."""
    return ProcessSpec(name=f"node{number}", kind="node", address=address(port))


def max_requests_in_flight() -> int:
    """Return how many requests HAProxy may have open at a node.

    A tenth of gunicorn's connections is left for idle ones, health checks and scrapes; what is
    over waits in HAProxy's queue, where a client that leaves costs nothing.
    """
    config = _gunicorn_config()
    connections: int = config["workers"] * config["worker_connections"]
    return max(1, connections * 9 // 10)


def max_stop_seconds() -> int:
    """Return when a node is killed after its stop signal; gunicorn kills its workers first."""
    return int(_gunicorn_config()["graceful_timeout"]) + 3


def _gunicorn_config() -> dict[str, Any]:
    return runpy.run_path(str(GUNICORN_CONFIG))
