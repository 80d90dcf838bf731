"""The message broker that BROKER_URL names; each kind is one module, imported only when chosen."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from dramatiq import Broker

MAKERS = {
    "redis": "config.brokers.redis.make",
    "rediss": "config.brokers.redis.make",
    "amqp": "config.brokers.rabbitmq.make",
    "amqps": "config.brokers.rabbitmq.make",
    "sqs": "config.brokers.sqs.make",
}


@functools.cache
def get_broker() -> Broker:
    """Return the process's broker, made on first use; raises ImproperlyConfigured.

    It has no middleware: retries, time limits and ages are the job's own, in PostgreSQL.
    """
    scheme = urlsplit(settings.BROKER_URL).scheme
    if scheme not in MAKERS:
        raise ImproperlyConfigured(f"BROKER_URL must begin with one of {', '.join(MAKERS)}://")
    broker: Broker = import_string(MAKERS[scheme])(settings.BROKER_URL)
    return broker
