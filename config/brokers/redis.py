"""Redis as broker (`redis://`, `rediss://`)."""

from __future__ import annotations

from django.conf import settings
from dramatiq import Consumer
from dramatiq.brokers.redis import RedisBroker
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.redis_connections import HeadraceRedis

NAMESPACE = "headrace:jobs"


class PollingRedisBroker(RedisBroker):
    """Looks for messages every BROKER_POLL_SECONDS, and has no queues for delayed ones.

    Dramatiq's own consumer waits up to a second between looks once a queue is idle, by the same
    timeout at which each of hundreds of worker threads wakes up.
    """

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 0) -> Consumer:
        """Return a consumer that polls at our own pace."""
        return super().consume(queue_name, prefetch, int(settings.BROKER_POLL_SECONDS * 1000))

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue; a job that is not due yet waits in PostgreSQL."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)


def make(url: str) -> PollingRedisBroker:
    """Return a broker whose commands fail after BROKER_TIMEOUT_SECONDS, and are attempted once."""
    client = HeadraceRedis.from_url(
        url,
        socket_timeout=settings.BROKER_TIMEOUT_SECONDS,
        socket_connect_timeout=settings.BROKER_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    broker: PollingRedisBroker = PollingRedisBroker(  # type: ignore[no-untyped-call]
        client=client, namespace=NAMESPACE, middleware=[]
    )
    return broker
