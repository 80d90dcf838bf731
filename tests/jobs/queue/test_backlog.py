"""The numbers of jobs for the autoscaler."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.autoscale import backlog
from jobs.models import Job
from jobs.queue.backlog import Backlog, count_queued, read_backlog
from tests.support.rows import make_job, minutes_ago

pytestmark = pytest.mark.django_db


def test_without_jobs_nothing_waits() -> None:
    assert read_backlog() == Backlog(waiting=0, running=0, oldest_seconds=0.0)


def test_due_and_running_jobs_count() -> None:
    for status in ("queued", "queued", "running", "succeeded", "failed"):
        make_job(status)
    make_job("queued", is_due=False, run_at=timezone.now() + timedelta(hours=1))
    found = read_backlog()
    assert (found.waiting, found.running) == (2, 1)


def test_the_oldest_has_waited_since_it_was_made_or_was_to_run() -> None:
    for made, run_at in ((1, None), (60, minutes_ago(3))):
        job = make_job("queued", run_at=run_at)
        Job.objects.filter(pk=job.pk).update(created_at=minutes_ago(made))
    assert 180 <= read_backlog().oldest_seconds < 200


def test_the_autoscaler_measures_it_for_each_worker() -> None:
    make_job("queued")
    found = backlog.read()
    assert backlog.measures(found, workers=0)["waiting_jobs"] == 1
    assert backlog.measures(found, workers=4)["waiting_jobs"] == 0.25


def test_jobs_of_any_time_count_as_queued() -> None:
    make_job("queued")
    make_job("queued", run_at=timezone.now() + timedelta(hours=1), is_due=False)
    make_job("running")
    assert count_queued() == 2
