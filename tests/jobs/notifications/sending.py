"""Send one webhook."""

from __future__ import annotations

import time
from typing import Any

from jobs.notifications import secrets
from jobs.notifications.outcomes import Outcome
from jobs.notifications.webhooks import make_message, send
from tests.jobs.notifications.rows import make_delivery


def deliver(url: str, **fields: Any) -> Outcome:
    """Send one webhook."""
    delivery = make_delivery(url, **fields)
    return send(make_message(delivery, secrets=secrets.current_secrets(delivery.account_id)))


def timed(url: str) -> tuple[Outcome, float]:
    """Send one webhook; return also how long that took."""
    message = make_message(make_delivery(url), secrets=["whsec_c2VjcmV0"])
    started = time.monotonic()
    return send(message), time.monotonic() - started
