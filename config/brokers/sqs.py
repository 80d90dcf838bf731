"""Amazon SQS as broker: `sqs://REGION`, or `sqs://REGION?endpoint_url=http://HOST:PORT`.

The credentials are boto3's own: its environment variables, files, or the machine's role. Needs the
extra `sqs` (package dramatiq-sqs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from botocore.config import Config
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from dramatiq_sqs import SQSBroker

if TYPE_CHECKING:
    from dramatiq import Broker, Consumer

NAMESPACE = "headrace"
# The longest poll that a worker's stop may have to wait for; each poll is a paid request.
LONG_POLL_MS = 5_000
# A worker that died gives its messages back after so long; the reaper does not wait for that.
VISIBILITY_SECONDS = 600


class LongPollingSqsBroker(SQSBroker):  # type: ignore[misc]
    """Waits for messages at SQS instead of polling it in a loop."""

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 0) -> Consumer:
        """Return a consumer with our own poll length."""
        consumer: Consumer = super().consume(queue_name, prefetch, LONG_POLL_MS)
        return consumer


def make(url: str) -> Broker:
    """Return a broker for the region and endpoint of the URL."""
    parts = urlsplit(url)
    if not parts.netloc:
        raise ImproperlyConfigured("BROKER_URL must look like sqs://eu-west-1")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    timeout = settings.BROKER_TIMEOUT_SECONDS
    return LongPollingSqsBroker(
        namespace=NAMESPACE,
        middleware=[],
        visibility_timeout=VISIBILITY_SECONDS,
        region_name=parts.netloc,
        config=Config(
            connect_timeout=timeout,
            read_timeout=timeout + LONG_POLL_MS / 1000,
            retries={"total_max_attempts": 1},
        ),
        **options,
    )
