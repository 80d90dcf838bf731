"""Staff's pages of jobs, deliveries and workers."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from access.models import Account
from jobs.admin import filters, pages
from jobs.admin.jobs import JobAdmin
from jobs.models import Delivery, DeliveryAttempt, Job, Worker
from tests.jobs.rows import make_attempt, make_job, make_worker, minutes_ago

pytestmark = pytest.mark.django_db

JOBS = "admin:jobs_job"
LIST = "/admin/jobs/job/"
HOSTILE = "<script>alert(1)</script>"
BREAKOUT = '"><img src=x onerror=alert(1)>'


@pytest.fixture(autouse=True)
def _pages_without_collected_static_files(settings: Any) -> None:
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


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


def listed(client: Client, **query: str) -> list[Job]:
    """Return the jobs that the list shows."""
    response = client.get(LIST, query)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def make_delivery(job: Job, **fields: Any) -> Delivery:
    """Return a notice of a job's end."""
    values: dict[str, Any] = {
        "channel": "webhook",
        "event_type": "job.failed",
        "target": "https://example.com/hook",
        "give_up_at": timezone.now() + timedelta(days=1),
    }
    return Delivery.objects.create(job=job, account=job.account, **{**values, **fields})


# --- The list -----------------------------------------------------------------------------------
def test_the_list_shows_jobs_the_newest_first_with_as_many_queries_for_many(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    jobs = [
        make_job(status, chain=f"chain-{number}", account=Account.objects.create(name=f"a{number}"))
        for number, status in enumerate(Job.Status.values * 3)
    ]
    with django_assert_max_num_queries(7):
        found = listed(admin_client)
    assert found == jobs[::-1]


def test_the_list_neither_loads_inputs_nor_counts_the_table(admin_client: Client) -> None:
    make_job("succeeded", output={"answer": "x"})
    with CaptureQueriesContext(
        connection,
    ) as queries:
        listed(admin_client)
    statements = [query["sql"] for query in queries if '"jobs_job"' in query["sql"]]
    assert statements
    for statement in statements:
        assert not re.search(r'"jobs_job"\."(input|output|request|metadata)"', statement)
        if "COUNT(" in statement:
            assert f"LIMIT {pages.REACHABLE + 1}" in statement


def test_what_the_pages_leave_out_is_said(admin_client: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(pages, "REACHABLE", 3)
    jobs = [make_job() for _ in range(5)]
    monkeypatch.setattr(JobAdmin, "list_per_page", 2)
    response = admin_client.get(LIST)
    assert "The pages show the first 3 of about" in response.content.decode()
    assert list(admin_client.get(LIST, {"p": "2"}).context["cl"].result_list) == [jobs[2]]
    few = admin_client.get(LIST, {"q": str(jobs[0])})
    assert "The pages show" not in few.content.decode()


@pytest.mark.parametrize("form", ["job_{0.hex}", "{0.hex}", "{0}", "  job_{0.hex} "])
def test_a_job_is_found_by_its_id(admin_client: Client, form: str) -> None:
    job, _ = make_job(), make_job()
    assert listed(admin_client, q=form.format(job.pk)) == [job]


def test_a_job_is_found_by_its_request(admin_client: Client) -> None:
    job, _ = make_job(request_id="req_1"), make_job(request_id="req_2")
    assert listed(admin_client, q="req_1") == [job]
    assert listed(admin_client, q="req_") == []


@pytest.mark.parametrize("query", ["job_x", "job_" + "g" * 32, "0" * 32, "'", "\0", "😀", "%"])
def test_no_search_is_a_500(admin_client: Client, query: str) -> None:
    admin_client.raise_request_exception = False
    for name in ("job", "delivery", "worker"):
        url = reverse(f"admin:jobs_{name}_changelist")
        assert admin_client.get(url, {"q": query}).status_code in (200, 302)


def test_the_filters_keep_what_they_name(admin_client: Client) -> None:
    plain = make_job()
    urgent = make_job("failed", chain="other", priority=9, api="responses")
    for query in (
        {"status__exact": "failed"},
        {"chain__id__exact": str(urgent.chain_id)},
        {"priority": "9"},
        {"api": "responses"},
    ):
        assert listed(admin_client, **query) == [urgent], query
    assert listed(admin_client, status__exact="queued", priority="5") == [plain]
    assert listed(admin_client, priority="many", api="x", submitted="y") == [urgent, plain]


def test_the_period_is_told_from_ids(admin_client: Client) -> None:
    new = make_job()
    old = make_job(id=filters.first_id_since(minutes_ago(61)))
    older = make_job(id=filters.first_id_since(minutes_ago(25 * 60)))
    assert listed(admin_client, submitted="hour") == [new]
    assert listed(admin_client, submitted="day") == [new, old]
    assert listed(admin_client, submitted="week") == [new, old, older]


def test_a_filter_without_an_index_looks_among_the_newest(
    admin_client: Client, monkeypatch: Any
) -> None:
    monkeypatch.setattr(filters, "NEWEST", 2)
    old = make_job(priority=9)
    new = [make_job("succeeded", priority=9) for _ in range(2)]
    assert listed(admin_client, priority="9") == new[::-1]
    assert listed(admin_client, priority="9", status__exact="queued") == [old]


# --- A job's page -------------------------------------------------------------------------------
def test_the_page_shows_attempts_progress_texts_and_deliveries(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    job = make_job(
        "failed", input={"input": "the prompt"}, output={"answer": "the output"},
        metadata={"team": "blue"}, error_code="chain_failed", error_message="It broke.",
        file_name="report.pdf", progress_completed=3, progress_total=4, last_event=17,
    )  # fmt: skip
    make_attempt(job, outcome="lost", worker_name="worker-one", ended_at=timezone.now())
    make_attempt(job, outcome="timed_out", traceback="Traceback: deep", ended_at=timezone.now())
    delivery = make_delivery(job, status="given_up")
    DeliveryAttempt.objects.create(
        delivery=delivery, duration_seconds=1, is_delivered=False, error="refused"
    )
    with django_assert_max_num_queries(7):
        text = page(admin_client, job)
    for part in (
        str(job), "the prompt", "the output", "blue", "It broke.", "report.pdf", "3 of 4", "17",
        "worker-one", "timed out", "<summary>Traceback</summary>", "Traceback: deep",
        "https://example.com/hook", "refused", "given up",
    ):  # fmt: skip
        assert part in text, part


def test_long_texts_are_cut_and_said_to_be(admin_client: Client) -> None:
    job = make_job(input={"input": "x" * 1_000_000 + "THE END"})
    text = page(admin_client, job)
    assert len(text) < 100_000
    assert "THE END" not in text
    assert re.search(r"Only the beginning is shown; all of it has 10000\d\d characters", text)


def test_what_clients_and_chains_wrote_is_shown_as_text(admin_client: Client) -> None:
    hostile = HOSTILE + BREAKOUT
    account = Account.objects.create(name=hostile)
    worker = make_worker(name=hostile, host=hostile)
    texts: dict[str, Any] = {
        "input": {hostile: hostile}, "output": hostile, "request": {"x": hostile},
        "metadata": {hostile: hostile}, "file_name": hostile, "progress_message": hostile,
        "error_code": hostile[:64], "error_message": hostile, "request_id": hostile,
        "webhook_url": hostile, "progress_completed": 1, "progress_total": 2,
    }  # fmt: skip
    over = make_job("failed", account=account, attempts=3, **texts)
    running = make_job("running", account=account, worker=worker, **texts)
    for job in (over, running):
        make_attempt(
            job, worker=worker, worker_name=hostile, traceback=hostile, error_code=hostile[:64],
            error_message=hostile,
        )  # fmt: skip
        delivery = make_delivery(job, status="given_up", target=hostile, event_type=hostile[:32])
        DeliveryAttempt.objects.create(
            delivery=delivery, duration_seconds=1, is_delivered=False, error=hostile
        )
    press(admin_client, over, "retry")
    Job.objects.filter(pk=over.pk).update(status="failed", finished_at=timezone.now(), **texts)
    for url in (
        LIST,
        reverse(f"{JOBS}_change", args=[over.pk]),
        reverse(f"{JOBS}_change", args=[running.pk]),
        reverse(f"{JOBS}_history", args=[over.pk]),
        reverse(f"{JOBS}_task_status"),
        reverse("admin:jobs_delivery_changelist"),
        reverse("admin:jobs_delivery_change", args=[delivery.pk]),
        reverse("admin:jobs_worker_changelist"),
        reverse("admin:jobs_worker_change", args=[worker.pk]),
        LIST + "?q=" + "%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E",
    ):
        response = admin_client.get(url)
        assert response.status_code == 200, url
        text = response.content.decode()
        assert HOSTILE not in text, url
        assert "<img src=x" not in text, url
    text = page(admin_client, over)
    assert text.count("&lt;script&gt;") >= 12
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") >= 10


def test_only_a_job_that_is_not_over_refreshes_itself_and_no_script_is_inline(
    admin_client: Client,
) -> None:
    for status in Job.Status.values:
        text = page(admin_client, make_job(status))
        assert ("data-refresh-seconds" in text) == (status in ("queued", "running")), status
        assert not re.search(r"<script(?![^>]*\bsrc=)", text)
        assert not re.search(r"<[^>]+\s(style|on\w+)=", text)
    script = Path(__file__).parents[2] / "jobs/static/jobs/refresh.js"
    assert "document.hidden" in script.read_text(encoding="utf-8")


def test_a_job_is_neither_added_nor_edited_nor_deleted_by_hand(admin_client: Client) -> None:
    job = make_job("failed")
    assert admin_client.get(reverse(f"{JOBS}_add")).status_code == 403
    assert admin_client.post(reverse(f"{JOBS}_change", args=[job.pk]), {}).status_code == 403
    url = reverse(f"{JOBS}_delete", args=[job.pk])
    assert admin_client.post(url, {"post": "yes"}).status_code == 403
    assert "delete_selected" not in admin_client.get(LIST).content.decode()


def test_an_unknown_job_leads_to_the_index(admin_client: Client) -> None:
    for name in (str(uuid.uuid4()), "nonsense", "0" * 40):
        response = admin_client.get(f"{LIST}{name}/change/")
        assert response.status_code == 302


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
        ("running", "cancel", "Its worker has been asked to cancel it.", "running"),
        ("succeeded", "cancel", "was already over: succeeded", "succeeded"),
        ("running", "requeue", "Taken from its worker", "queued"),
        ("queued", "requeue", "does not run", "queued"),
        ("failed", "requeue", "does not run", "failed"),
    ],
)
def test_a_button_does_its_work_and_says_what_came_of_it(
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
    assert "had already been asked" in press(admin_client, job, "cancel")
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


def test_a_job_that_goes_meanwhile_is_said_to_be_gone(
    admin_client: Client, monkeypatch: Any
) -> None:
    job = make_job()
    monkeypatch.setattr("jobs.services.transitions.end", lambda _: job.delete() and False)
    assert "There is no such job." in press(admin_client, job, "cancel")


def test_the_actions_report_counts(admin_client: Client) -> None:
    jobs = [make_job("failed"), make_job("cancelled"), make_job("running"), make_job("succeeded")]
    response = admin_client.post(
        LIST, {"action": "retry_jobs", "_selected_action": [job.pk for job in jobs]}
    )
    text = said(response)
    assert "2 jobs queued again; 2 left as they were." in text
    assert "1 jobs: The job is running" in text
    assert Job.objects.filter(status="queued").count() == 2
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize(("action", "left"), [("cancel_jobs", 1), ("requeue_jobs", 2)])
def test_the_other_actions_work_too(admin_client: Client, action: str, left: int) -> None:
    jobs = [make_job("queued"), make_job("running"), make_job("failed")]
    response = admin_client.post(
        LIST, {"action": action, "_selected_action": [job.pk for job in jobs]}
    )
    assert f"{left} left as they were" in said(response)


def test_an_action_on_everything_is_bounded(admin_client: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("jobs.admin.jobs.MAX_ACTED", 2)
    jobs = [make_job() for _ in range(3)]
    response = admin_client.post(
        LIST, {"action": "cancel_jobs", "select_across": "1", "_selected_action": [jobs[0].pk]}
    )
    assert "Only the newest 2 jobs were looked at." in said(response)
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
    assert "delivered again" in said(response)
    delivery.refresh_from_db()
    assert delivery.status == "pending"
    assert LogEntry.objects.get().object_id == str(delivery.pk)


def test_the_way_back_leads_to_no_other_site(admin_client: Client) -> None:
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
    assert "2 deliveries to be delivered again." in said(response)
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
