"""Staff's pages of jobs, as tests look at them and press their buttons."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from jobs.models import Delivery, Job

JOBS = "admin:jobs_job"


@pytest.fixture(autouse=True)
def _pages_without_collected_static_files(settings: Any) -> None:
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


@pytest.fixture
def staff(client: Client, django_user_model: Any) -> Any:
    """Return a function that logs in staff with these permissions alone."""

    def log_in(*codenames: str) -> Client:
        user = django_user_model.objects.create_user("someone", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return log_in


def page(client: Client, job: Job) -> str:
    """Return a job's page."""
    response = client.get(reverse(f"{JOBS}_change", args=[job.pk]))
    assert response.status_code == 200
    return str(response.content.decode())


def press(client: Client, job: Job, name: str) -> str:
    """Press a button on a job's page; return what is said."""
    response = client.post(reverse(f"{JOBS}_operate", args=[job.pk, name]))
    assert response.status_code == 302
    return said(response)


def said(response: Any) -> str:
    """Return the messages of a response."""
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def make_delivery(job: Job, **fields: Any) -> Delivery:
    """Return a delivery of a job."""
    values: dict[str, Any] = {
        "channel": "webhook",
        "event_type": "job.failed",
        "target": "https://example.com/hook",
        "give_up_at": timezone.now() + timedelta(days=1),
    }
    return Delivery.objects.create(job=job, account=job.account, **{**values, **fields})
