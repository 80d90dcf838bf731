"""The actor: a message of the broker wakes a worker."""

from __future__ import annotations

import functools
from typing import Any

import dramatiq

from config.brokers import get_broker
from jobs.worker.slots import SLOTS

QUEUE = "jobs"


def run_job(job_id: str) -> None:
    """Start a slot of this worker; the database decides which job it runs.

    So a message that is delivered twice, late or not at all changes nothing. `job_id` is for people
    who read the queue.
    """
    SLOTS.wake()


@functools.cache
def actor() -> dramatiq.Actor[..., Any]:
    """Return the actor, bound to the broker on first use."""
    declare = dramatiq.actor(broker=get_broker(), actor_name="run_job", queue_name=QUEUE)
    return declare(run_job)
