"""Send one webhook, as Standard Webhooks has it (https://www.standardwebhooks.com).

The receiver is chosen by a client, so it is not trusted: not its address, not its speed, not the
size of its response.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import SplitResult, urljoin, urlsplit

from django.conf import settings
from standardwebhooks import Webhook

from config import exact_json
from config.retry_after import retry_after_seconds
from config.version import VERSION
from jobs.models import Delivery
from jobs.notifications.addresses import check_webhook_url
from jobs.notifications.connections import Deadline, connect
from jobs.notifications.outcomes import Outcome, delivered, failed
from jobs.schemas import job_body
from scaling.database_clock import CLOCK

MAX_REDIRECTS = 3
# The others would turn a POST into a GET.
REDIRECTS = (307, 308)
GONE = 410
READ_BYTES = 8192
# For the heads of a response and the framing of its body.
MAX_HEAD_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class Message:
    """A signed webhook, ready to be sent without the database."""

    url: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    location: str | None
    retry_after: str | None
    text: str


def make_message(
    delivery: Delivery, *, secrets: Sequence[str], now: datetime | None = None
) -> Message:
    """Return the message of a delivery, whose job and chain must be loaded.

    Each secret makes one signature, so a receiver that has any of them can verify it.
    """
    body = exact_json.dumps(
        {
            "id": str(delivery),
            "type": delivery.event_type,
            "created_at": int(delivery.created_at.timestamp()),
            "data": job_body(delivery.job),
        }
    )
    now = now or CLOCK.datetime()
    text = body.decode()
    signatures = [Webhook(secret).sign(str(delivery), now, text) for secret in secrets]
    return Message(
        url=delivery.target,
        body=body,
        headers={
            "Content-Type": "application/json",
            "User-Agent": f"Headrace/{VERSION}",
            "webhook-id": str(delivery),
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        },
    )


def send(message: Message) -> Outcome:
    """Post a webhook and follow its redirects, all within WEBHOOK_TIMEOUT_SECONDS.

    Never raises for an error of the receiver or the network.
    """
    deadline = Deadline(settings.WEBHOOK_TIMEOUT_SECONDS)
    url = message.url
    try:
        for _ in range(MAX_REDIRECTS + 1):
            answer = _post(url, message, deadline)
            if answer.status not in REDIRECTS or not answer.location:
                return _read(answer)
            url = _next_url(url, answer.location)
    except TimeoutError:
        return failed(f"no answer within {settings.WEBHOOK_TIMEOUT_SECONDS:g} s")
    except ValueError as error:
        return failed(f"the address {error}")
    except (OSError, http.client.HTTPException) as error:
        return failed(f"{type(error).__name__}: {error}")
    return failed(f"more than {MAX_REDIRECTS} redirects", status_code=answer.status)


def _post(url: str, message: Message, deadline: Deadline) -> _Answer:
    parts = urlsplit(check_webhook_url(url))
    is_tls = parts.scheme == "https"
    host = parts.hostname or ""
    kind = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
    # It makes the Host header; the connection is made here.
    connection = kind(host, parts.port)
    sock = connect(
        host=host,
        port=connection.port,
        is_tls=is_tls,
        deadline=deadline,
        max_bytes=MAX_HEAD_BYTES + settings.WEBHOOK_MAX_RESPONSE_BYTES,
    )
    try:
        connection.sock = sock
        headers = {**message.headers, "Connection": "close"}
        connection.request("POST", _path(parts), message.body, headers)
        response = connection.getresponse()
        text = _read_text(response)
        return _Answer(
            status=response.status,
            location=response.getheader("Location"),
            retry_after=response.getheader("Retry-After"),
            text=text,
        )
    finally:
        sock.hang_up()


def _read(answer: _Answer) -> Outcome:
    if 200 <= answer.status < 300:
        return delivered(status_code=answer.status)
    reason = f"status {answer.status}"
    if answer.text:
        reason = f"{reason}: {answer.text}"
    return failed(
        reason,
        is_permanent=answer.status == GONE,
        status_code=answer.status,
        retry_after_seconds=retry_after_seconds(
            answer.retry_after, most_seconds=settings.WEBHOOK_RETRY_MAX_SECONDS
        ),
    )


def _read_text(response: http.client.HTTPResponse) -> str:
    """Return the beginning of a body, up to where it is late or breaks off.

    The status has come by then, so an error in the body does not make a success a failure.
    """
    found = b""
    try:
        while len(found) < settings.WEBHOOK_MAX_RESPONSE_BYTES:
            wanted = min(READ_BYTES, settings.WEBHOOK_MAX_RESPONSE_BYTES - len(found))
            if not (piece := response.read1(wanted)):
                break
            found += piece
    except (OSError, ValueError, http.client.HTTPException):
        pass
    return found.decode(errors="replace").strip()


def _next_url(url: str, location: str) -> str:
    new = urljoin(url, location)
    if url.startswith("https:") and not new.startswith("https:"):
        raise ValueError("must not redirect from https to another scheme")
    return new


def _path(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path
