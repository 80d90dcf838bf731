"""Buttons and actions of staff's pages, who may press them, and the deliveries' own pages."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from jobs.models import Delivery, Job, Worker
from tests.jobs.admin.pages import (
    JOBS,
    _pages_without_collected_static_files,
    make_delivery,
    page,
    press,
    said,
    staff,
)
from tests.support.rows import make_job, make_worker

__all__ = ["_pages_without_collected_static_files", "staff"]

pytestmark = pytest.mark.django_db

LIST = "/admin/jobs/job/"


# --- Buttons ------------------------------------------------------------------------------------
def test_each_status_has_its_buttons(admin_client: Client) -> None:
    buttons = {
        "queued": {"cancel"},
        "running": {"cancel", "requeue"},
        "failed": {"retry"},
        "cancelled": {"retry"},
        "succeeded": set(),
    }
    for status, names in buttons.items():
        text = page(admin_client, make_job(status))
        assert set(re.findall(r"/do/(\w+)/", text)) == names, status


@pytest.mark.parametrize(
    ("status", "name", "message", "after"),
    [
        ("failed", "retry", "Queued again", "queued"),
        ("cancelled", "retry", "Queued again", "queued"),
        ("running", "retry", "only a failed or cancelled one can be retried", "running"),
        ("succeeded", "retry", "only a failed or cancelled one can be retried", "succeeded"),
        ("queued", "cancel", "Cancelled.", "cancelled"),
        ("running", "cancel", "Cancellation was requested from its worker.", "running"),
        ("succeeded", "cancel", "had already ended: succeeded", "succeeded"),
        ("running", "requeue", "Requeued; the attempt", "queued"),
        ("queued", "requeue", "is not running", "queued"),
        ("failed", "requeue", "is not running", "failed"),
    ],
)
def test_a_button_does_its_work_and_shows_the_result(
    admin_client: Client, status: str, name: str, message: str, after: str
) -> None:
    job = make_job(status)
    assert message in press(admin_client, job, name)
    current = Job.objects.get(pk=job.pk)
    assert current.status == after
    is_changed = current.status != status or current.cancel_requested_at is not None
    entries = LogEntry.objects.filter(object_id=str(job.pk))
    logged = [entry.get_change_message().partition(":")[0] for entry in entries]
    assert logged == ([name.capitalize()] if is_changed else [])


def test_a_second_cancel_says_that_the_worker_knows(admin_client: Client) -> None:
    job = make_job("running")
    press(admin_client, job, "cancel")
    assert "was already requested" in press(admin_client, job, "cancel")
    assert "cancelling" in page(admin_client, job)


def test_a_requeued_attempt_is_released_and_not_counted(admin_client: Client) -> None:
    job = make_job("running")
    press(admin_client, job, "requeue")
    job.refresh_from_db()
    assert (job.attempts, job.lease, job.worker) == (0, None, None)
    assert job.attempt_rows.get().outcome == "released"


def test_buttons_are_posted_with_a_token(admin_user: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    job = make_job()
    url = reverse(f"{JOBS}_operate", args=[job.pk, "cancel"])
    assert client.get(url).status_code == 405
    assert client.post(url).status_code == 403
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page(client, job))
    assert token
    assert client.post(url, {"csrfmiddlewaretoken": token[1]}).status_code == 302
    job.refresh_from_db()
    assert job.status == "cancelled"


def test_an_unknown_operation_or_job_is_not_found(admin_client: Client) -> None:
    job = make_job()
    for args in ([job.pk, "explode"], [uuid.uuid4(), "cancel"]):
        assert admin_client.post(reverse(f"{JOBS}_operate", args=args)).status_code == 404


def test_a_job_that_is_deleted_at_the_same_time_is_reported_missing(
    admin_client: Client, monkeypatch: Any
) -> None:
    job = make_job()
    monkeypatch.setattr("jobs.services.transitions.finish", lambda _: job.delete() and False)
    assert "There is no such job." in press(admin_client, job, "cancel")


def test_the_actions_report_counts(admin_client: Client) -> None:
    jobs = [make_job("failed"), make_job("cancelled"), make_job("running"), make_job("succeeded")]
    response = admin_client.post(
        LIST, {"action": "retry_jobs", "_selected_action": [job.pk for job in jobs]}
    )
    text = said(response)
    assert "2 jobs queued again; 2 unchanged." in text
    assert "1 jobs: The job is running" in text
    assert Job.objects.filter(status="queued").count() == 2
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize(("action", "left"), [("cancel_jobs", 1), ("requeue_jobs", 2)])
def test_the_other_actions_work_too(admin_client: Client, action: str, left: int) -> None:
    jobs = [make_job("queued"), make_job("running"), make_job("failed")]
    response = admin_client.post(
        LIST, {"action": action, "_selected_action": [job.pk for job in jobs]}
    )
    assert f"{left} unchanged" in said(response)


def test_an_action_on_everything_is_bounded(admin_client: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("jobs.admin.jobs.MAX_ACTED", 2)
    jobs = [make_job() for _ in range(3)]
    response = admin_client.post(
        LIST, {"action": "cancel_jobs", "select_across": "1", "_selected_action": [jobs[0].pk]}
    )
    assert "Only the newest 2 jobs were considered." in said(response)
    assert list(Job.objects.filter(status="queued")) == [jobs[0]]


# --- Permissions --------------------------------------------------------------------------------
def test_staff_who_may_only_look_see_no_buttons_and_cannot_press_any(staff: Any) -> None:
    client = staff("view_job", "view_delivery")
    job = make_job("failed")
    delivery = make_delivery(job)
    text = page(client, job)
    assert "/do/" not in text
    assert "/redeliver/" not in text
    assert "retry_jobs" not in client.get(LIST).content.decode()
    for url in (
        reverse(f"{JOBS}_operate", args=[job.pk, "retry"]),
        reverse("admin:jobs_delivery_redeliver", args=[delivery.pk]),
    ):
        assert client.post(url).status_code == 403
    client.post(LIST, {"action": "retry_jobs", "_selected_action": [job.pk]})
    job.refresh_from_db()
    assert job.status == "failed"


def test_staff_without_permission_see_nothing(staff: Any) -> None:
    client = staff("view_chain")
    job = make_job()
    for url in (LIST, f"{LIST}{job.pk}/change/", reverse(f"{JOBS}_task_status")):
        assert client.get(url).status_code == 403


def test_the_task_status_has_a_permission_of_its_own(staff: Any) -> None:
    client = staff("view_job", "view_worker", "change_job")
    assert client.get(reverse(f"{JOBS}_task_status")).status_code == 403
    assert reverse(f"{JOBS}_task_status") not in client.get(LIST).content.decode()
    assert reverse(f"{JOBS}_task_status") not in client.get("/admin/").content.decode()


def test_the_change_permission_is_enough_for_the_buttons(staff: Any) -> None:
    client = staff("change_job")
    job = make_job("failed")
    assert "/do/retry/" in page(client, job)
    assert "Queued again" in press(client, job, "retry")


# --- Deliveries and workers ---------------------------------------------------------------------
def test_a_delivery_is_delivered_again_from_the_jobs_page(admin_client: Client) -> None:
    job = make_job("failed")
    delivery = make_delivery(job, status="given_up", attempts=9)
    url = reverse("admin:jobs_delivery_redeliver", args=[delivery.pk])
    assert url in page(admin_client, job)
    back = reverse(f"{JOBS}_change", args=[job.pk])
    response = admin_client.post(url, {"next": back})
    assert (response.status_code, response["Location"]) == (302, back)
    assert "Queued for immediate delivery" in said(response)
    delivery.refresh_from_db()
    assert delivery.status == "pending"
    assert LogEntry.objects.get().object_id == str(delivery.pk)


def test_the_redirect_leads_to_no_other_site(admin_client: Client) -> None:
    delivery = make_delivery(make_job("failed"))
    url = reverse("admin:jobs_delivery_redeliver", args=[delivery.pk])
    assert admin_client.get(url).status_code == 405
    for back in ("https://evil.example/", "//evil.example", "/\\evil.example", ""):
        response = admin_client.post(url, {"next": back})
        assert response["Location"] == reverse("admin:jobs_delivery_change", args=[delivery.pk])


def test_selected_deliveries_are_delivered_again(admin_client: Client) -> None:
    job = make_job("failed")
    rows = [make_delivery(job, status=status) for status in ("given_up", "delivered")]
    response = admin_client.post(
        reverse("admin:jobs_delivery_changelist"),
        {"action": "redeliver_selected", "_selected_action": [row.pk for row in rows]},
    )
    assert "2 deliveries are due again." in said(response)
    assert Delivery.objects.filter(status="pending").count() == 2


def test_deliveries_are_found_by_their_id_and_their_jobs(admin_client: Client) -> None:
    job = make_job("failed")
    delivery, _ = make_delivery(job), make_delivery(make_job("failed"))
    url = reverse("admin:jobs_delivery_changelist")
    for query in (str(delivery), str(delivery.pk), str(job)):
        found = admin_client.get(url, {"q": query}).context["cl"].result_list
        assert list(found) == [delivery], query


def test_deliveries_and_workers_are_to_read(admin_client: Client) -> None:
    delivery, worker = make_delivery(make_job("failed")), make_worker(name="worker-nine")
    for name, row in (("delivery", delivery), ("worker", worker)):
        url = reverse(f"admin:jobs_{name}_change", args=[row.pk])
        assert admin_client.get(url).status_code == 200
        assert admin_client.post(url, {}).status_code == 403
        assert admin_client.get(reverse(f"admin:jobs_{name}_add")).status_code == 403
        delete = reverse(f"admin:jobs_{name}_delete", args=[row.pk])
        assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    workers = admin_client.get(reverse("admin:jobs_worker_changelist")).content.decode()
    assert "worker-nine" in workers
    assert Worker.objects.exists()


def test_secrets_of_webhooks_have_no_page(admin_client: Client) -> None:
    assert "webhooksecret" not in admin_client.get("/admin/").content.decode()
    assert admin_client.get("/admin/jobs/webhooksecret/").status_code == 404
