"""Operations of staff on deliveries."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from jobs.models import Delivery


def redeliver(delivery: Delivery) -> Delivery:
    """Make a delivery due now, in any state, and return it as it is then.

    It is attempted for another WEBHOOK_GIVE_UP_HOURS. An attempt that is under way goes on, and its
    result is dropped.
    """
    Delivery.objects.filter(pk=delivery.pk).update(
        status=Delivery.Status.PENDING,
        attempts=0,
        due_at=Now(),
        give_up_at=Now() + timedelta(hours=settings.WEBHOOK_GIVE_UP_HOURS),
        lease=None,
        lease_until=None,
        delivered_at=None,
    )
    delivery.refresh_from_db()
    return delivery
