"""Staff's pages of jobs, deliveries and workers."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from access.models import Account
from jobs.admin import filters, pages
from jobs.admin.jobs import JobAdmin
from jobs.models import DeliveryAttempt, Job
from tests.jobs.admin.pages import (
    JOBS,
    _pages_without_collected_static_files,
    make_delivery,
    page,
    press,
)
from tests.support.rows import make_attempt, make_job, make_worker, minutes_ago

__all__ = ["_pages_without_collected_static_files"]

pytestmark = pytest.mark.django_db

LIST = "/admin/jobs/job/"
HOSTILE = "<script>alert(1)</script>"
BREAKOUT = '"><img src=x onerror=alert(1)>'


def listed(client: Client, **query: str) -> list[Job]:
    """Return the jobs that the list shows."""
    response = client.get(LIST, query)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


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


def test_the_filters_select_the_rows_that_they_name(admin_client: Client) -> None:
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


def test_the_period_is_read_from_ids(admin_client: Client) -> None:
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
    script = Path(__file__).parents[3] / "jobs/static/jobs/refresh.js"
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
