"""A queue that is full refuses, and takes again once there is room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chat.models import Chain
from jobs import services
from jobs.errors import QueueFull
from jobs.models import Job
from jobs.services import Submission, check
from tests.jobs.rows import make_job

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _count_anew() -> Iterator[None]:
    services._queue_length.clear()
    yield
    services._queue_length.clear()


def test_a_full_queue_refuses_with_the_time_to_wait(settings: Any) -> None:
    settings.JOB_QUEUE_MAX = 3
    Chain.objects.create(slug="helper", runnable="assistant", model="openai:x", base_url="http://x")
    submission = Submission(chain="helper", input={"messages": [{"role": "user", "content": "Hi"}]})
    make_job("succeeded")
    make_job("running")
    for _ in range(2):
        make_job("queued")
    assert check(submission).slug == "helper"
    # A job that waits for its time takes up room too.
    make_job("queued", is_due=False)
    services._queue_length.clear()
    with pytest.raises(QueueFull) as full:
        check(submission)
    assert (full.value.status, full.value.retry_after_seconds) == (429, 10)
    Job.objects.filter(status="queued").first().delete()  # type: ignore[union-attr]
    services._queue_length.clear()
    assert check(submission).slug == "helper"
