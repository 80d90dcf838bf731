"""How the jobs stand, and the page that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from access.models import Account
from config.brokers import get_broker
from config.stacked_bars import BAR_STEP
from jobs import services, task_status
from jobs.admin import chart
from jobs.models import Delivery, Job
from jobs.queue import history
from jobs.queue.history import Minute
from tests.support.rows import make_attempt, make_job, make_worker, minutes_ago

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _pages_without_collected_static_files(settings: Any) -> None:
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


@pytest.fixture
def use_broker(settings: Any) -> Iterator[Any]:
    """Return a function that makes another broker the process's own, until the test ends."""

    def use(url: str) -> None:
        settings.BROKER_URL = url
        get_broker.cache_clear()

    yield use
    get_broker.cache_clear()


# --- What waits ---------------------------------------------------------------------------------
def test_nothing_waits() -> None:
    queue = task_status.read_queue()
    assert (queue.count, queue.scheduled, queue.since, queue.next_run_at) == (0, 0, None, None)
    assert (queue.by_priority, queue.by_chain, queue.is_cut) == ([], [], False)


def test_waiting_jobs_are_counted_by_priority_and_chain_with_the_oldest() -> None:
    old, older = minutes_ago(5), minutes_ago(9)
    make_job(chain="a", priority=9, created_at=old)
    make_job(chain="a", priority=5, created_at=older)
    make_job(chain="b", priority=5, created_at=minutes_ago(1))
    for status in ("running", "succeeded", "failed", "cancelled"):
        make_job(status, created_at=minutes_ago(99))
    queue = task_status.read_queue()
    assert (queue.count, queue.since) == (3, older)
    assert [(line.name, line.count, line.since) for line in queue.by_priority] == [
        ("9", 1, old),
        ("5", 2, older),
    ]
    assert [(line.name, line.count) for line in queue.by_chain] == [("a", 2), ("b", 1)]
    assert queue.by_chain[0].since == older


def test_a_retried_job_waits_since_its_retry() -> None:
    job = make_job("failed", created_at=minutes_ago(500))
    services.retry(job)
    since = task_status.read_queue().since
    assert since is not None
    assert timezone.now() - since < timedelta(minutes=1)


def test_scheduled_jobs_do_not_count_as_waiting() -> None:
    soon = timezone.now() + timedelta(minutes=5)
    make_job(is_due=False, run_at=soon)
    make_job(is_due=False, run_at=soon + timedelta(days=1))
    queue = task_status.read_queue()
    assert (queue.count, queue.scheduled, queue.next_run_at) == (0, 2, soon)


def test_a_long_queue_is_said_to_be_cut(monkeypatch: Any) -> None:
    monkeypatch.setattr(task_status, "MAX_WAITING", 2)
    for _ in range(3):
        make_job()
    queue = task_status.read_queue()
    assert (queue.count, queue.is_cut) == (2, True)


# --- Workers ------------------------------------------------------------------------------------
def test_living_workers_are_listed_with_their_jobs(monkeypatch: Any) -> None:
    monkeypatch.setattr(task_status, "MAX_JOBS_OF_WORKER", 2)
    busy = make_worker(name="a", running=3)
    make_worker(name="b", lease_until=minutes_ago(1))
    make_worker(name="c", state="draining")
    make_worker(name="d", state="gone")
    jobs = [make_job("running", worker=busy) for _ in range(3)]
    first, late, draining = task_status.read_workers()
    assert [w.worker.name for w in (first, late, draining)] == ["a", "b", "c"]
    assert [w.is_late for w in (first, late, draining)] == [False, True, False]
    assert (first.running, len(first.jobs), first.others) == (3, 2, 1)
    assert {job.id for job in first.jobs} < {job.pk for job in jobs}
    assert first.jobs[0].since is not None
    assert task_status.count_running() == 3


# --- What is over -------------------------------------------------------------------------------
def test_throughput_is_counted_by_the_minute() -> None:
    for status, seconds in (
        ("succeeded", 5), ("succeeded", 10), ("failed", 29), ("cancelled", 31),
        ("succeeded", 59 * 60 + 30), ("succeeded", 59 * 60 + 31), ("failed", 7200),
    ):  # fmt: skip
        make_job(status, finished_at=NOON - timedelta(seconds=seconds))
    throughput = history.read_throughput(now=NOON)
    assert len(throughput.minutes) == history.MINUTES
    last, before, first = (throughput.minutes[place] for place in (-1, -2, 0))
    assert (last.start, last.succeeded, last.failed) == (NOON.replace(second=0), 2, 1)
    assert (before.cancelled, before.total) == (1, 1)
    assert (first.start, first.succeeded) == (datetime(2026, 1, 1, 11, 1, tzinfo=UTC), 1)
    assert sum(minute.total for minute in throughput.minutes) == 5
    assert throughput.cut_at is None


def test_an_hour_with_too_many_begins_later(monkeypatch: Any) -> None:
    monkeypatch.setattr(history, "MAX_ENDED", 2)
    for minutes in (1, 2, 3):
        make_job("succeeded", finished_at=NOON - timedelta(minutes=minutes))
    throughput = history.read_throughput(now=NOON)
    assert throughput.cut_at == NOON - timedelta(minutes=2)
    assert sum(minute.total for minute in throughput.minutes) == 2


def test_dead_letters_are_jobs_that_used_up_their_attempts_or_workers() -> None:
    make_job("failed", attempts=1, error_code="invalid_input")
    make_job("failed", attempts=3, finished_at=minutes_ago(25 * 60))
    make_job("succeeded", attempts=3)
    tired = make_job("failed", attempts=3, finished_at=minutes_ago(2))
    lost = make_job("failed", attempts=2, error_code="worker_lost", finished_at=minutes_ago(1))
    letters = history.list_dead_letters()
    assert letters == [lost, tired]
    assert {"input", "output"} <= letters[0].get_deferred_fields()


def test_deliveries_that_were_given_up_are_listed_the_newest_jobs_first() -> None:
    rows = [
        Delivery.objects.create(
            job=job, account=job.account, channel="webhook", event_type="job.failed", target="x",
            status=status, give_up_at=minutes_ago(1),
        )
        for job, status in (
            (make_job("failed"), "given_up"), (make_job("failed"), "pending"),
            (make_job("failed"), "delivered"), (make_job("failed"), "given_up"),
        )
    ]  # fmt: skip
    assert history.list_given_up() == [rows[3], rows[0]]


# --- The broker ---------------------------------------------------------------------------------
def test_the_broker_says_how_many_messages_it_holds() -> None:
    broker: Any = get_broker()
    key = f"{broker.namespace}:jobs.msgs"
    before = task_status.read_broker_depth()
    assert before is not None
    names = [f"test-{number}" for number in range(50)]
    broker.client.hset(key, mapping=dict.fromkeys(names, "x"))
    try:
        depth = task_status.read_broker_depth()
        # The stack's own workers may have taken some other message before.
        assert depth is not None
        assert depth >= 50
    finally:
        broker.client.hdel(key, *names)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1", "sqs://x", ""])
def test_the_depth_of_an_unavailable_or_other_broker_is_unknown(
    use_broker: Any, admin_client: Client, url: str
) -> None:
    use_broker(url)
    assert task_status.read_broker_depth() is None
    text = admin_client.get(reverse("admin:jobs_job_task_status")).content.decode()
    assert "<strong>unknown</strong> messages in the broker" in text


# --- The page -----------------------------------------------------------------------------------
def test_the_chart_stacks_failures_upon_successes_and_shows_single_ones() -> None:
    drawn = chart.draw([
        Minute(start=NOON, succeeded=3, failed=1),
        Minute(start=NOON),
        Minute(start=NOON, succeeded=2),
    ])  # fmt: skip
    assert drawn.most == 4
    succeeded, failed, other = drawn.bars
    assert (succeeded.y, succeeded.height) == (30, 90)
    assert (failed.y, failed.height, failed.x) == (0, 30, 0)
    assert other.x == 2 * BAR_STEP
    tiny = chart.draw([Minute(start=NOON, succeeded=100_000, failed=1)]).bars[1]
    assert tiny.height >= 1
    assert tiny.y >= 0
    assert chart.draw([]).bars == []


def test_the_page_shows_it_all_with_as_many_queries_for_many_jobs(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    worker = make_worker(name="worker-one", running=1)
    running = make_job("running", worker=worker)
    for number in range(5):
        account = Account.objects.create(name=f"account-{number}")
        make_job(chain=f"chain-{number}", account=account)
        dead = make_job("failed", attempts=3, account=account, error_message="It broke.")
        make_attempt(dead, outcome="failed")
        given_up = Delivery.objects.create(
            job=dead, account=account, channel="webhook", event_type="job.failed",
            target="https://example.com/hook", status="given_up", give_up_at=minutes_ago(1),
        )  # fmt: skip
    with django_assert_max_num_queries(12):
        response = admin_client.get(reverse("admin:jobs_job_task_status"))
    text = response.content.decode()
    for part in (
        "worker-one", "chain-4", "It broke.", str(dead), str(given_up), "<svg", "<title",
        "<strong>5</strong> waiting", "<strong>1</strong> running", 'data-refresh-seconds="5"',
        reverse("admin:jobs_job_change", args=[running.pk]),
    ):  # fmt: skip
        assert part in text, part


def test_an_idle_system_has_a_page_too_and_links_lead_to_it(admin_client: Client) -> None:
    url = reverse("admin:jobs_job_task_status")
    text = admin_client.get(url).content.decode()
    assert "No job waits." in text
    assert "No worker is alive" in text
    assert "No job ended." in text
    for page in ("/admin/", reverse("admin:jobs_job_changelist")):
        assert url in admin_client.get(page).content.decode()
    assert not Job.objects.exists()
