"""The actor: a message of the broker wakes a worker."""

from __future__ import annotations

import dramatiq

from config.brokers import get_broker
from jobs.queue.messages import ACTOR, QUEUE
from jobs.worker.slots import SLOTS


def run_job(job_id: str) -> None:
    """Start a slot of this worker; the database decides which job it runs.

    So a message that is delivered twice, late or not at all changes nothing.
    """
    SLOTS.wake()


def declare_actor() -> None:
    """Let this process's broker run the actor."""
    declare = dramatiq.actor(broker=get_broker(), actor_name=ACTOR, queue_name=QUEUE)
    declare(run_job)
