"""Checks of the recipients of e-mail, and of its rate in an hour."""

from __future__ import annotations

from collections.abc import Collection

from django.conf import settings
from django.db import connection

from access.principal import Principal
from jobs.errors import NotifyEmailNotAllowed
from jobs.models import Delivery

# Until an e-mail is attempted again: while the hour is full, and while others are being sent.
FULL_SECONDS = 600.0
CROWDED_SECONDS = 5.0
# E-mails that have been sent in the last hour, and that are being sent now.
COUNTS = """
SELECT count(*) FILTER (WHERE account_id = %(account_id)s AND is_sent),
       count(*) FILTER (WHERE account_id = %(account_id)s),
       count(*) FILTER (WHERE lower(target) = lower(%(target)s) AND is_sent),
       count(*) FILTER (WHERE lower(target) = lower(%(target)s))
FROM (SELECT id, account_id, target, true AS is_sent FROM jobs_delivery
      WHERE channel = 'email' AND delivered_at > now() - interval '1 hour'
      UNION ALL
      SELECT id, account_id, target, false FROM jobs_delivery
      WHERE channel = 'email' AND status = 'pending' AND lease_until > now()) AS sent
WHERE id <> %(id)s
"""


def is_allowed(address: str, entries: Collection[str]) -> bool:
    """Return whether an address is one of the entries, or of a domain (`example.com`) of them.

    `*` allows every address. Capitals make no difference; a domain's subdomains are others.
    """
    address = address.casefold()
    domain = address.rpartition("@")[2]
    return bool({address, domain, "*"} & {entry.casefold().removeprefix("@") for entry in entries})


def check_recipient(principal: Principal, address: str) -> None:
    """Raise NotifyEmailNotAllowed (403) where neither the setting nor the account allows it."""
    if not address or is_allowed(address, settings.NOTIFY_EMAIL_ALLOWED):
        return
    if not is_allowed(address, principal.notify_emails):
        raise NotifyEmailNotAllowed


def may_still_be_sent(delivery: Delivery) -> bool:
    """Return whether an e-mail's address, allowed when its job was posted, still is."""
    entries = [*settings.NOTIFY_EMAIL_ALLOWED, *delivery.account.notify_email_entries]
    return is_allowed(delivery.target, entries)


def wait_seconds(delivery: Delivery) -> float:
    """Return how long an e-mail must wait for room in the hour of its account and its address.

    0 is now. One query. Of several that are being sent at once, each sees the others, so that the
    bounds hold; where these alone are in the way, the wait is a short one.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            COUNTS,
            {"id": delivery.pk, "account_id": delivery.account_id, "target": delivery.target},
        )
        account_sent, of_account, address_sent, to_address = cursor.fetchone()
    account_most = settings.NOTIFY_EMAIL_PER_ACCOUNT_HOUR
    address_most = settings.NOTIFY_EMAIL_PER_ADDRESS_HOUR
    if account_sent >= account_most or address_sent >= address_most:
        return FULL_SECONDS
    is_crowded = of_account >= account_most or to_address >= address_most
    return CROWDED_SECONDS if is_crowded else 0.0
