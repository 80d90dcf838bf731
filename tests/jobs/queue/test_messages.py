"""A message reaches the worker's actor, and a broker that takes none is no error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from config.brokers import get_broker
from jobs.queue.messages import QUEUE, send, warm_up
from jobs.worker.tasks import declare_actor, run_job
from tests.support.redis_server import OwnRedis, own_redis

__all__ = ["own_redis"]


@pytest.fixture
def _own_broker(own_redis: OwnRedis, settings: Any) -> Iterator[None]:
    settings.BROKER_URL = own_redis.url
    get_broker.cache_clear()
    yield
    get_broker.cache_clear()


@pytest.mark.usefixtures("_own_broker")
def test_what_is_sent_is_for_the_actor_of_workers() -> None:
    assert send("a job")
    declare_actor()
    consumer = get_broker().consume(QUEUE)
    message = next(consumer)
    assert message is not None
    assert get_broker().get_actor(message.actor_name).fn is run_job
    assert (message.args, message.kwargs) == (("a job",), {})
    consumer.ack(message)
    assert next(consumer) is None


@pytest.mark.usefixtures("_own_broker")
def test_a_broker_that_is_unavailable_takes_no_message(own_redis: OwnRedis) -> None:
    warm_up()
    own_redis.kill()
    assert not send("a job")


def test_a_broker_url_that_is_wrong_is_no_error(settings: Any) -> None:
    settings.BROKER_URL = "carrier-pigeon://loft"
    get_broker.cache_clear()
    warm_up()
    assert not send("a job")
