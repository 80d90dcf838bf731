"""The secrets that webhooks are signed with.

None is stored: each is derived from SECRET_KEY, the account and a row's salt, so a copy of the
database signs nothing. While SECRET_KEY_FALLBACKS names a former key, its secrets sign as well.
"""

from __future__ import annotations

import base64
import secrets
import uuid
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from access.models import Account
from config.api.errors import DeletedMeanwhile
from jobs.models import WebhookSecret

PREFIX = "whsec_"
# Each signs every webhook, so rotating again and again must not add to them for ever.
MAX_LIVE = 4


def current(account_id: uuid.UUID) -> WebhookSecret:
    """Return the row of the secret that clients are shown; makes an account's first."""
    row = _current(account_id)
    if row is not None:
        return row
    with transaction.atomic():
        _lock(account_id)
        # Another request may have made it while this one waited for the lock.
        return _current(account_id) or _create(account_id)


def current_secrets(account_id: uuid.UUID) -> list[str]:
    """Return every secret that signs now, the one that clients are shown first."""
    rows = [current(account_id), *_live(account_id).filter(expires_at__isnull=False)]
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [secret_of(row, key=key) for key in keys for row in rows]


def rotate(account_id: uuid.UUID, *, overlap_hours: float | None = None) -> WebhookSecret:
    """Make a new secret; those before it sign for another `overlap_hours`.

    None means WEBHOOK_SECRET_OVERLAP_HOURS, and 0 ends them at once.
    """
    if overlap_hours is None:
        overlap_hours = settings.WEBHOOK_SECRET_OVERLAP_HOURS
    with transaction.atomic():
        _lock(account_id)
        rows = WebhookSecret.objects.filter(account_id=account_id)
        end = Now() + timedelta(hours=overlap_hours)
        rows.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=end)).update(expires_at=end)
        live = _live(account_id).values_list("pk", flat=True)[: MAX_LIVE - 1]
        rows.exclude(pk__in=list(live)).delete()
        return _create(account_id)


def secret_of(row: WebhookSecret, *, key: str | None = None) -> str:
    """Return a row's secret as `whsec_` and Base64 of 32 bytes; the key is SECRET_KEY if None."""
    digest = salted_hmac(
        "jobs.notifications.secrets",
        f"{row.account_id.hex}.{row.salt}",
        secret=settings.SECRET_KEY if key is None else key,
        algorithm="sha256",
    ).digest()
    return PREFIX + base64.b64encode(digest).decode()


def _current(account_id: uuid.UUID) -> WebhookSecret | None:
    return (
        WebhookSecret.objects.filter(account_id=account_id, expires_at=None).order_by("-pk").first()
    )


def _live(account_id: uuid.UUID) -> QuerySet[WebhookSecret]:
    is_live = Q(expires_at=None) | Q(expires_at__gt=Now())
    return WebhookSecret.objects.filter(is_live, account_id=account_id).order_by("-pk")


def _create(account_id: uuid.UUID) -> WebhookSecret:
    return WebhookSecret.objects.create(account_id=account_id, salt=secrets.token_hex(32))


def _lock(account_id: uuid.UUID) -> None:
    # Two first secrets would both be current. Rows that refer to the account are not held up.
    if Account.objects.select_for_update(no_key=True).filter(pk=account_id).first() is None:
        raise DeletedMeanwhile
