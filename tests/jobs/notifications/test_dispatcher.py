"""Dispatchers as processes of their own, on the test's database, with receivers that misbehave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone
from standardwebhooks import Webhook

from jobs.models import Delivery, DeliveryAttempt, Job
from jobs.notifications import deliveries, secrets
from jobs.notifications.outcomes import delivered, failed
from jobs.notifications.services import redeliver
from jobs.queue import transitions
from jobs.queue.transitions import Finish
from tests.jobs.notifications.receivers import MailServer, Receiver, answer, hang, in_turn
from tests.jobs.notifications.rows import make_account, make_delivery, make_job
from tests.stack_plugin import BASE_DIR
from tests.support.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

WAIT_SECONDS = 15.0
POLL_SECONDS = 0.2


def database_url() -> str:
    """Return the URL of the test's own database."""
    entry = connection.settings_dict
    params = {name.lower(): str(entry[name]) for name in ("USER", "PASSWORD", "HOST", "PORT")}
    given = {name: value for name, value in params.items() if value}
    given["application_name"] = "dispatcher"
    return f"postgresql:///{quote(entry['NAME'])}?{urlencode(given)}"


def environment(**settings: object) -> dict[str, str]:
    """Return the environment of a dispatcher that is in a hurry."""
    values = {
        "DATABASE_URL": database_url(),
        "DATABASE_POOL_MIN": 0,
        "SECRET_KEY": django_settings.SECRET_KEY,
        "WEBHOOK_ALLOW_PRIVATE": "true",
        "WEBHOOK_TIMEOUT_SECONDS": 2,
        "WEBHOOK_RETRY_BASE_SECONDS": 0.1,
        "WEBHOOK_RETRY_MAX_SECONDS": 0.2,
        "POLL_SECONDS": POLL_SECONDS,
        "STOP_SECONDS": 1,
        **settings,
    }
    return {**os.environ, **{name: str(value) for name, value in values.items()}}


@contextmanager
def dispatcher(**settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a dispatcher."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.jobs.notifications.dispatcher_process"],
        cwd=BASE_DIR,
        env=environment(**settings),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def until(check: Callable[[], Any]) -> None:
    """Wait until something is so."""
    eventually(check, seconds=WAIT_SECONDS, what="the dispatcher's work", every_seconds=0.02)


def until_over(*rows: Delivery) -> None:
    """Wait until none of the deliveries is pending."""
    pending = Delivery.objects.filter(pk__in=[row.pk for row in rows], status="pending")
    until(lambda: not pending.exists())
    for row in rows:
        row.refresh_from_db()


def tries(delivery: Delivery) -> list[tuple[bool, int | None]]:
    """Return the outcome of each attempt."""
    rows = DeliveryAttempt.objects.filter(delivery=delivery).order_by("pk")
    return [(row.is_delivered, row.status_code) for row in rows]


def claim(**options: Any) -> list[deliveries.ClaimedDelivery]:
    return deliveries.claim(**{"count": 10, "running": {}, **options})


# --- A dispatcher -------------------------------------------------------------------------------
def test_the_end_of_a_job_is_delivered_by_webhook_and_by_mail() -> None:
    lease = uuid.uuid4()
    with Receiver(answer(200)) as receiver, MailServer() as server:
        job = make_job(
            status=Job.Status.RUNNING,
            lease=lease,
            output=None,
            webhook_url=receiver.url(),
            notify_email="ada@example.com",
        )
        finish = Finish(job_id=job.pk, lease=lease, status="succeeded", output='"yes"')
        assert transitions.finish([finish])
        with dispatcher(
            EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
            EMAIL_HOST="127.0.0.1",
            EMAIL_PORT=server.port,
        ):
            until_over(*Delivery.objects.filter(job=job))
    (received,) = receiver.received
    (secret,) = secrets.current_secrets(job.account_id)
    event = Webhook(secret).verify(received.body, received.headers)
    assert (event["type"], event["data"]["output"]) == ("job.succeeded", "yes")
    (mail,) = server.mails
    assert b"To: ada@example.com" in mail
    assert {row.status for row in Delivery.objects.filter(job=job)} == {"delivered"}
    assert all(row.delivered_at for row in Delivery.objects.filter(job=job))


def test_no_more_e_mails_are_sent_than_the_hour_has_room_for() -> None:
    with MailServer() as server:
        job = make_job()
        rows = [
            make_delivery(f"{name}@example.com", job, channel="email") for name in ("a", "b", "c")
        ]
        rows.append(make_delivery("d@example.net", job, channel="email"))
        with dispatcher(
            EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
            EMAIL_HOST="127.0.0.1",
            EMAIL_PORT=server.port,
            NOTIFY_EMAIL_PER_ACCOUNT_HOUR=2,
            NOTIFICATION_ACCOUNT_CONCURRENCY=1,
        ):
            until_over(rows[0], rows[1], rows[3])
            until(lambda: Delivery.objects.filter(pk=rows[2].pk, due_at__gt=Now()).exists())
    assert len(server.mails) == 2
    # The last is to a domain that is not allowed.
    assert [row.status for row in rows] == ["delivered", "delivered", "pending", "given_up"]


def test_a_failed_delivery_is_retried_with_the_same_id() -> None:
    with Receiver(in_turn(answer(500), answer(503), answer(200))) as receiver:
        delivery = make_delivery(receiver.url())
        with dispatcher(WEBHOOK_RETRY_BASE_SECONDS=0.5, WEBHOOK_RETRY_MAX_SECONDS=1):
            until_over(delivery)
    assert delivery.status == "delivered"
    assert delivery.lease is None
    assert delivery.attempts == 3
    assert tries(delivery) == [(False, 500), (False, 503), (True, 200)]
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
    times = [received.at for received in receiver.received]
    assert times[1] - times[0] >= 0.25
    assert times[2] - times[1] >= 0.5


def test_a_delivery_to_a_receiver_that_is_gone_is_not_retried() -> None:
    with Receiver(answer(410)) as receiver:
        delivery = make_delivery(receiver.url())
        with dispatcher():
            until_over(delivery)
            time.sleep(3 * POLL_SECONDS)
    assert delivery.status == "given_up"
    assert len(receiver.received) == 1


def test_a_delivery_is_given_up_at_its_time() -> None:
    with Receiver(answer(500)) as receiver, dispatcher():
        delivery = make_delivery(receiver.url(), give_up_at=Now() + timedelta(seconds=1.5))
        until_over(delivery)
    assert delivery.status == "given_up"
    assert len(tries(delivery)) == delivery.attempts > 1


def test_hanging_receivers_hold_up_no_other_account() -> None:
    with Receiver(hang) as hanging, Receiver(answer(200)) as good:
        job = make_job()
        for _ in range(40):
            make_delivery(hanging.url(), job)
        others = [make_delivery(good.url()) for _ in range(3)]
        with dispatcher(WEBHOOK_TIMEOUT_SECONDS=10):
            until(lambda: len(hanging.received) == 8)
            until_over(*others)
            time.sleep(3 * POLL_SECONDS)
            assert len(hanging.received) == 8
    assert {row.status for row in others} == {"delivered"}


def test_a_backlog_is_worked_off_without_pauses() -> None:
    with Receiver(answer(200)) as receiver:
        job = make_job()
        rows = [make_delivery(receiver.url(), job) for _ in range(100)]
        with dispatcher(NOTIFICATION_ACCOUNT_CONCURRENCY=2, POLL_SECONDS=1):
            until_over(*rows)
    times = [received.at for received in receiver.received]
    assert len(times) == 100
    # Two every POLL_SECONDS would take fifty.
    assert max(times) - min(times) < 10


def test_two_dispatchers_share_the_work() -> None:
    with Receiver(answer(200)) as receiver:
        rows = [make_delivery(receiver.url()) for _ in range(60)]
        with dispatcher(), dispatcher():
            until_over(*rows)
    ids = [received.headers["webhook-id"] for received in receiver.received]
    assert sorted(ids) == sorted(str(row) for row in rows)


def test_a_killed_dispatchers_deliveries_are_attempted_by_another() -> None:
    with Receiver(in_turn(hang, answer(200))) as receiver:
        delivery = make_delivery(receiver.url())
        with dispatcher() as first:
            until(lambda: receiver.received)
            first.kill()
            first.wait()
        delivery.refresh_from_db()
        assert delivery.lease is not None
        # The time until its lease runs out.
        Delivery.objects.update(lease_until=Now())
        with dispatcher():
            until_over(delivery)
    assert delivery.status == "delivered"
    assert tries(delivery) == [(True, 200)]


def test_a_dispatcher_that_stops_releases_the_deliveries_it_could_not_finish() -> None:
    with Receiver(in_turn(hang, answer(200))) as receiver:
        delivery = make_delivery(receiver.url())
        with dispatcher(WEBHOOK_TIMEOUT_SECONDS=30) as first:
            until(lambda: receiver.received)
            first.send_signal(signal.SIGTERM)
            assert first.wait(15) == 0
        delivery.refresh_from_db()
        assert (delivery.lease, delivery.attempts, delivery.status) == (None, 0, "pending")
        with dispatcher():
            until_over(delivery)
    assert delivery.status == "delivered"


def test_a_dispatcher_outlives_its_database_connections() -> None:
    with Receiver(answer(200)) as receiver, dispatcher() as process:
        first = make_delivery(receiver.url())
        until_over(first)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'dispatcher'"
            )
            assert cursor.fetchone()[0] > 0
        second = make_delivery(receiver.url())
        until_over(second)
        assert process.poll() is None
    assert len(receiver.received) == 2


def test_a_waiting_receiver_holds_no_database_connection() -> None:
    with Receiver(hang) as receiver:
        for _ in range(8):
            make_delivery(receiver.url())
        good = make_delivery("ada@example.com")
        with dispatcher(DATABASE_POOL_MAX=1, WEBHOOK_TIMEOUT_SECONDS=10):
            until(lambda: len(receiver.received) == 8)
            until_over(good)


# --- The statements -----------------------------------------------------------------------------
def test_a_delivery_is_claimed_once_until_its_lease_runs_out() -> None:
    delivery = make_delivery("http://127.0.0.1/")
    (claimed,) = claim()
    assert (claimed.id, claimed.account_id, claimed.attempt) == (
        delivery.pk,
        delivery.account_id,
        1,
    )
    delivery.refresh_from_db()
    assert delivery.lease_until is not None
    seconds = (delivery.lease_until - timezone.now()).total_seconds()
    assert seconds == pytest.approx(deliveries.lease_seconds("webhook"), abs=2)
    assert claim() == []
    Delivery.objects.update(lease_until=Now())
    (again,) = claim()
    assert again.lease != claimed.lease
    # The first dispatcher was only frozen.
    assert deliveries.finish(claimed, delivered(), duration_seconds=1.0) is None
    assert tries(delivery) == []
    assert deliveries.finish(again, delivered(), duration_seconds=1.0) == "delivered"
    assert tries(delivery) == [(True, None)]


def test_what_is_not_due_or_over_is_not_claimed() -> None:
    make_delivery("http://127.0.0.1/", due_at=Now() + timedelta(seconds=60))
    make_delivery("http://127.0.0.1/", status="delivered")
    make_delivery("http://127.0.0.1/", status="given_up")
    assert claim() == []


def test_an_account_has_its_share_at_most() -> None:
    busy, idle = make_account(), make_account()
    for account in (busy, idle):
        job = make_job(account)
        for _ in range(12):
            make_delivery("http://127.0.0.1/", job)
    found = claim(count=40, running={busy.pk: 5})
    accounts = [each.account_id for each in found]
    assert (accounts.count(busy.pk), accounts.count(idle.pk)) == (3, 8)
    assert claim(count=40, running={busy.pk: 8, idle.pk: 8}) == []
    assert len(claim(count=2, running={})) == 2


def test_the_longest_due_comes_first() -> None:
    rows = [
        make_delivery("http://127.0.0.1/", due_at=Now() - timedelta(seconds=age))
        for age in (1, 30, 20)
    ]
    assert [each.id for each in claim(count=1)] == [rows[1].pk]
    assert [each.id for each in claim(count=1)] == [rows[2].pk]


def test_a_delivery_without_an_attempt_is_attempted_however_late() -> None:
    delivery = make_delivery("http://127.0.0.1/", give_up_at=Now() - timedelta(days=1))
    assert deliveries.give_up() == []
    (claimed,) = claim()
    assert deliveries.finish(claimed, failed("no"), duration_seconds=0.1) == "given_up"
    delivery.refresh_from_db()
    assert delivery.status == "given_up"


def test_a_delivery_with_an_attempt_is_not_attempted_after_its_time() -> None:
    delivery = make_delivery("http://127.0.0.1/", attempts=1, give_up_at=Now())
    assert claim() == []
    assert deliveries.give_up() == ["webhook"]
    delivery.refresh_from_db()
    assert delivery.status == "given_up"


def test_pauses_double_up_to_the_longest(settings) -> None:
    settings.WEBHOOK_RETRY_BASE_SECONDS = 5.0
    settings.WEBHOOK_RETRY_MAX_SECONDS = 3600.0
    for attempt, longest in ((1, 5), (2, 10), (5, 80), (11, 3600), (30_000, 3600)):
        delays = [deliveries.retry_delay_seconds(attempt) for _ in range(50)]
        assert longest / 2 <= min(delays) < max(delays) <= longest


def test_the_pause_that_a_receiver_wants_is_made() -> None:
    delivery = make_delivery("http://127.0.0.1:9/")
    (claimed,) = claim()
    outcome = failed("status 429", status_code=429, retry_after_seconds=3000.0)
    deliveries.finish(claimed, outcome, duration_seconds=0.1)
    delivery.refresh_from_db()
    assert delivery.due_at > timezone.now() + timedelta(seconds=2900)


def test_staff_can_have_a_delivery_made_again() -> None:
    delivery = make_delivery("http://127.0.0.1/", give_up_at=Now() - timedelta(days=1))
    (claimed,) = claim()
    assert deliveries.finish(claimed, failed("no"), duration_seconds=0.1) == "given_up"
    again = redeliver(delivery)
    assert (again.status, again.attempts, again.delivered_at) == ("pending", 0, None)
    assert again.give_up_at > timezone.now() + timedelta(hours=1)
    (claimed,) = claim()
    # An attempt that was under way no longer has an effect.
    redeliver(delivery)
    assert deliveries.finish(claimed, delivered(), duration_seconds=0.1) is None
    assert len(claim()) == 1


def test_texts_of_receivers_can_be_stored() -> None:
    make_delivery("http://127.0.0.1/")
    (claimed,) = claim()
    outcome = failed("\0\udcff" + "é" * 1000, status_code=999)
    assert deliveries.finish(claimed, outcome, duration_seconds=0.1) == "pending"
    assert len(DeliveryAttempt.objects.get().error) == 500


def test_a_receiver_finds_the_end_on_every_replica(monkeypatch) -> None:
    recorded: list[str] = []
    monkeypatch.setattr(deliveries, "publish_position", recorded.extend)
    delivery = make_delivery("someone@example.com")
    assert deliveries.claim(count=1, running={})
    assert recorded == [delivery.account_id.hex]
