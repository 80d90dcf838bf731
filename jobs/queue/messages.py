"""Wake-up messages: what a broker carries to the actor of `jobs.worker.tasks`."""

from __future__ import annotations

import logging

from dramatiq import Broker, Message

from config.brokers import get_broker
from jobs import metrics

logger = logging.getLogger(__name__)

QUEUE = "jobs"
ACTOR = "run_job"


def send(job_id: str) -> bool:
    """Send one message now; return whether the broker took it.

    `job_id` is for people who read the queue: the database decides which job runs.
    """
    message: Message[None] = Message(
        queue_name=QUEUE, actor_name=ACTOR, args=(job_id,), kwargs={}, options={}
    )
    try:
        _declared().enqueue(message)
    # Each broker's client raises errors of its own, and polling makes up for all of them.
    except Exception as error:
        metrics.ANNOUNCE_FAILURES.inc()
        logger.warning("the broker accepted no message: %s", type(error).__name__)
        return False
    return True


def warm_up() -> None:
    """Load the broker's client, which would block the event loop at the first message."""
    try:
        _declared()
    # A node serves without a broker too, and with a BROKER_URL that is wrong.
    except Exception as error:
        logger.warning("no broker: %s", error)


def _declared() -> Broker:
    broker = get_broker()
    # No call of the server: it has no effect after the first time.
    broker.declare_queue(QUEUE)
    return broker
