"""RabbitMQ as broker (`amqp://`, `amqps://`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from dramatiq.brokers.rabbitmq import RabbitmqBroker

if TYPE_CHECKING:
    from dramatiq import Broker


def make(url: str) -> Broker:
    """Return a broker that waits for RabbitMQ's word that a message is safe.

    An unreachable server fails a call after BROKER_TIMEOUT_SECONDS.
    """
    timeout = settings.BROKER_TIMEOUT_SECONDS
    separator = "&" if "?" in url else "?"
    options = f"socket_timeout={timeout}&stack_timeout={timeout * 2}&blocked_connection_timeout=30"
    return RabbitmqBroker(url=f"{url}{separator}{options}", confirm_delivery=True, middleware=[])
