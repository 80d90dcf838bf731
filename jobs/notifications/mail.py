"""Notify by e-mail, through Django's EMAIL_BACKEND."""

from __future__ import annotations

import smtplib
from email.utils import parseaddr

import gevent
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from jobs.models import Delivery
from jobs.notifications.outcomes import Outcome, delivered, failed

# A server's timeout is one of each of its steps.
TOTAL_SECONDS = 60.0


def make_message(delivery: Delivery) -> EmailMultiAlternatives:
    """Return the e-mail for a delivery, whose job and chain must be loaded.

    It holds neither input nor output, which may be confidential.
    """
    job = delivery.job
    end = delivery.event_type.removeprefix("job.")
    context = {"job": job, "chain": job.chain.slug, "end": end}
    subject = " ".join(f"Job {job} ({job.chain.slug}) {_VERBS[end]}".split())
    message = EmailMultiAlternatives(
        subject=subject,
        body=render_to_string(f"jobs/email/{end}.txt", context),
        to=[delivery.target],
        headers={"Message-ID": _message_id(delivery), "Auto-Submitted": "auto-generated"},
    )
    message.attach_alternative(render_to_string(f"jobs/email/{end}.html", context), "text/html")
    return message


def send(message: EmailMultiAlternatives) -> Outcome:
    """Send an e-mail to the server; only its final refusal is a permanent failure."""
    try:
        with gevent.Timeout(TOTAL_SECONDS, TimeoutError("the mail server is too slow")):
            message.send()
    # Each backend raises errors of its own, and the next attempt may meet none of them.
    except Exception as error:
        return failed(f"{type(error).__name__}: {error}", is_permanent=_is_refused(error))
    return delivered()


_VERBS = {"succeeded": "succeeded", "failed": "failed", "cancelled": "was cancelled"}


def _is_refused(error: Exception) -> bool:
    """Return whether the server refuses this e-mail or this recipient for good."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPDataError):
        return error.smtp_code >= 500
    # Anymail is imported only where it is the backend.
    return type(error).__name__ in ("AnymailRecipientsRefused", "AnymailInvalidAddress")


def _message_id(delivery: Delivery) -> str:
    # The same at each attempt, so that a mailbox can recognise a duplicate.
    _, address = parseaddr(settings.DEFAULT_FROM_EMAIL)
    return f"<{delivery}@{address.rpartition('@')[2] or 'localhost'}>"
