"""The e-mails about finished jobs."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest
from django.core import mail as django_mail
from django.core.checks import run_checks

from jobs.models import Job
from jobs.notifications.mail import make_message, send
from jobs.notifications.outcomes import Outcome
from tests.jobs.notifications.receivers import MailServer
from tests.jobs.notifications.rows import make_delivery, make_job

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>\r\nBcc: all@example.com"


def parts_of(message: EmailMessage) -> tuple[str, str]:
    """Return the text and the HTML of an e-mail."""
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


def written(job: Job) -> EmailMessage:
    """Return the e-mail of a job's end as it is sent."""
    message = make_message(make_delivery("ada@example.com", job)).message()
    read = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


@pytest.mark.parametrize(
    ("fields", "subject", "sentence"),
    [
        ({"status": "succeeded"}, "succeeded", "has succeeded"),
        ({"status": "cancelled"}, "was cancelled", "was cancelled"),
        (
            {"status": "failed", "error_code": "job_timeout", "error_message": "It took long."},
            "failed",
            "has failed: It took long. (job_timeout)",
        ),
    ],
)
def test_each_end_has_its_mail(
    fields: dict[str, Any], subject: str, sentence: str, settings
) -> None:
    settings.DEFAULT_FROM_EMAIL = "Headrace <noreply@headrace.example>"
    job = make_job(**fields, metadata={"ticket": "4711"})
    message = written(job)
    assert message["Subject"] == f"Job {job} (notices) {subject}"
    assert message["To"] == "ada@example.com"
    assert message["From"] == "Headrace <noreply@headrace.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].startswith("<evt_")
    assert message["Message-ID"].endswith("@headrace.example>")
    for part in parts_of(message):
        assert str(job) in part
        assert "4711" in part
        assert "of the client" not in part
        assert "answer" not in part
    text, html = parts_of(message)
    assert sentence in text
    assert sentence in html.replace("<code>", "").replace("</code>", "")


def test_a_hostile_job_cannot_write_the_mail() -> None:
    job = make_job(
        status="failed", error_code="x", error_message=HOSTILE, metadata={HOSTILE: HOSTILE}
    )
    job.chain.slug = HOSTILE
    delivery = make_delivery("ada@example.com", job)
    delivery.job = job
    message = make_message(delivery)
    assert "\n" not in message.subject
    assert "\r" not in message.subject
    html = str(message.alternatives[0][0])
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<script>alert(1)</script>" in message.body
    assert message.message()["Bcc"] is None


def test_a_mail_is_sent_by_djangos_backend() -> None:
    message = make_message(make_delivery("ada@example.com"))
    assert send(message) == Outcome(is_delivered=True)
    assert [sent.to for sent in django_mail.outbox] == [["ada@example.com"]]


@pytest.mark.parametrize(
    ("reply", "is_permanent"),
    [("450 try later", False), ("452 full", False), ("550 no such user", True)],
)
def test_only_a_final_refusal_is_permanent(reply: str, is_permanent: bool, settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    message = make_message(make_delivery("ada@example.com"))
    with MailServer(reply, "250 ok") as server:
        settings.EMAIL_PORT = server.port
        outcome = send(message)
        assert not outcome.is_delivered
        assert outcome.is_permanent == is_permanent
        assert reply[4:] in outcome.error
        assert server.mails == []
        assert send(message).is_delivered
        assert len(server.mails) == 1


def test_no_mail_server_is_a_failure_that_may_pass(settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    with MailServer() as server:
        settings.EMAIL_PORT = server.port
    outcome = send(make_message(make_delivery("ada@example.com")))
    assert "ConnectionRefusedError" in outcome.error
    assert not outcome.is_permanent


@pytest.mark.parametrize(("is_allowed", "found"), [(True, True), (False, False)])
def test_a_deployment_is_warned_of_private_webhooks(
    is_allowed: bool, found: bool, settings
) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = is_allowed
    ids = {message.id for message in run_checks(include_deployment_checks=True)}
    assert ("jobs.W001" in ids) == found
    assert "jobs.W001" not in {message.id for message in run_checks()}
