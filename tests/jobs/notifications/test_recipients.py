"""To whom the service writes, and how often."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db.models.functions import Now

from access.models import validate_notify_emails
from access.principal import Limits, Principal
from jobs.errors import NotifyEmailNotAllowed
from jobs.models import Delivery
from jobs.notifications import deliveries, recipients
from jobs.notifications.recipients import (
    check_recipient,
    is_allowed,
    may_still_be_sent,
    wait_seconds,
)
from tests.jobs.notifications.rows import make_delivery, make_job

pytestmark = pytest.mark.django_db


def caller(*entries: str) -> Principal:
    return Principal(
        key_id=uuid.uuid4(),
        account_id=uuid.uuid4(),
        account_name="acme",
        name="key",
        scopes=frozenset(),
        limits=Limits(),
        notify_emails=entries,
    )


@pytest.mark.parametrize(
    ("address", "entries", "expected"),
    [
        ("ada@example.com", [], False),
        ("ada@example.com", ["example.com"], True),
        ("Ada@Example.COM", ["@example.com"], True),
        ("ada@example.com", ["ADA@example.com"], True),
        ("bob@example.com", ["ada@example.com"], False),
        ("ada@mail.example.com", ["example.com"], False),
        ("ada@notexample.com", ["example.com"], False),
        ("example.com@evil.test", ["example.com"], False),
        ("ada@example.com@evil.test", ["example.com"], False),
        ("anybody@anywhere.test", ["*"], True),
    ],
)
def test_an_address_or_its_domain_must_be_named(
    address: str, entries: list[str], expected: bool
) -> None:
    assert is_allowed(address, entries) is expected


def test_no_address_is_written_to_unless_staff_allow_it(settings: Any) -> None:
    settings.NOTIFY_EMAIL_ALLOWED = []
    check_recipient(caller(), "")
    with pytest.raises(NotifyEmailNotAllowed, match="NOTIFY_EMAIL_ALLOWED") as refused:
        check_recipient(caller(), "ada@example.com")
    assert (refused.value.status, refused.value.param) == (403, "notify_email")
    check_recipient(caller("example.com"), "ada@example.com")
    settings.NOTIFY_EMAIL_ALLOWED = ["example.com"]
    check_recipient(caller(), "ada@example.com")
    with pytest.raises(NotifyEmailNotAllowed):
        check_recipient(caller("example.org"), "ada@example.net")


def test_what_is_no_address_and_no_domain_is_refused_in_the_admin() -> None:
    validate_notify_emails("ada@example.com\n@example.org example.net\n*")
    for bad in ("ada@", "a b@c", "-", "example..com"):
        with pytest.raises(ValidationError):
            validate_notify_emails(bad)


def mail_to(address: str, job: Any, **fields: Any) -> Delivery:
    return make_delivery(address, job, channel="email", **fields)


def test_an_account_that_lost_an_address_has_nothing_sent_there(settings: Any) -> None:
    settings.NOTIFY_EMAIL_ALLOWED = []
    delivery = mail_to("ada@example.com", make_job())
    assert not may_still_be_sent(delivery)
    delivery.account.notify_emails = "example.org\nexample.com"
    assert may_still_be_sent(delivery)


def test_an_hour_has_room_for_so_many(settings: Any) -> None:
    settings.NOTIFY_EMAIL_PER_ACCOUNT_HOUR = 3
    settings.NOTIFY_EMAIL_PER_ADDRESS_HOUR = 2
    mine, others = make_job(), make_job()

    def sent(address: str, job: Any, minutes: float = 5) -> None:
        at = Now() - timedelta(minutes=minutes)
        mail_to(address, job, status="delivered", delivered_at=at)

    sent("ada@example.com", others)
    sent("ada@example.com", mine, minutes=61)
    assert wait_seconds(mail_to("Ada@example.com", mine)) == 0
    sent("ADA@example.com", mine)
    # Two by now, of two accounts.
    assert wait_seconds(mail_to("ada@example.com", others)) == recipients.FULL_SECONDS
    assert wait_seconds(mail_to("bob@example.com", mine)) == 0
    sent("bob@example.com", mine)
    # What is being sent counts too, and is over soon.
    mail_to("cyd@example.com", mine, lease=uuid.uuid4(), lease_until=Now() + timedelta(minutes=1))
    assert wait_seconds(mail_to("dan@example.com", mine)) == recipients.CROWDED_SECONDS
    assert wait_seconds(mail_to("dan@example.com", others)) == 0
    sent("cyd@example.com", mine)
    assert wait_seconds(mail_to("dan@example.com", mine)) == recipients.FULL_SECONDS


@pytest.mark.django_db(transaction=True)
def test_a_postponed_delivery_has_no_attempt_and_is_given_up_at_its_time() -> None:
    job = make_job()
    row = mail_to("ada@example.com", job)
    late = mail_to("bob@example.com", job, give_up_at=Now() + timedelta(seconds=60))
    claimed = {each.id: each for each in deliveries.claim(count=10, running={})}
    assert deliveries.postpone(claimed[row.pk], seconds=600) == "pending"
    assert deliveries.postpone(claimed[late.pk], seconds=600) == "given_up"
    row.refresh_from_db()
    assert (row.attempts, row.lease) == (0, None)
    assert deliveries.claim(count=10, running={}) == []
    # Another dispatcher has it by now.
    assert deliveries.postpone(claimed[row.pk], seconds=600) is None
