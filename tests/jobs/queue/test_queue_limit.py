"""A queue that is full refuses, and takes again once there is room."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest

from access.errors import StoredExceeded
from access.principal import Limits, Principal
from chat.models import Chain
from jobs import services
from jobs.documents.original import Original
from jobs.documents.received import ReceivedFile
from jobs.errors import AccountQueueFull, QueueFull
from jobs.models import Job
from jobs.services import Submission, check
from tests.support.rows import make_job

pytestmark = pytest.mark.django_db

CALLER = Principal(
    key_id=uuid.uuid4(),
    account_id=uuid.uuid4(),
    account_name="other",
    name="key",
    scopes=frozenset(),
    limits=Limits(),
)


@pytest.fixture(autouse=True)
def _count_anew() -> Iterator[None]:
    for counts in (services.QUEUE_LENGTH, services.ACCOUNT_QUEUE_LENGTH):
        counts.clear()
    yield
    for counts in (services.QUEUE_LENGTH, services.ACCOUNT_QUEUE_LENGTH):
        counts.clear()


def test_a_full_queue_refuses_with_the_time_to_wait(settings: Any) -> None:
    settings.JOB_QUEUE_MAX = 3
    Chain.objects.create(slug="helper", runnable="assistant", model="openai:x", base_url="http://x")
    submission = Submission(chain="helper", input={"messages": [{"role": "user", "content": "Hi"}]})
    make_job("succeeded")
    make_job("running")
    for _ in range(2):
        make_job("queued")
    assert check(CALLER, submission).slug == "helper"
    # A job that waits for its time takes up room too.
    make_job("queued", is_due=False)
    services.QUEUE_LENGTH.clear()
    with pytest.raises(QueueFull) as full:
        check(CALLER, submission)
    assert (full.value.status, full.value.retry_after_seconds) == (429, 10)
    Job.objects.filter(status="queued").first().delete()  # type: ignore[union-attr]
    services.QUEUE_LENGTH.clear()
    assert check(CALLER, submission).slug == "helper"


def test_an_account_fills_its_own_part_of_the_queue_and_no_more(settings: Any) -> None:
    settings.JOB_ACCOUNT_QUEUE_MAX = 2
    Chain.objects.create(slug="helper", runnable="assistant", model="openai:x", base_url="http://x")
    submission = Submission(chain="helper", input={"messages": [{"role": "user", "content": "Hi"}]})
    full = replace(CALLER, account_id=make_job("queued").account_id)
    make_job("succeeded")
    make_job("queued", is_due=False)
    with pytest.raises(AccountQueueFull, match="JOB_ACCOUNT_QUEUE_MAX") as refused:
        check(full, submission)
    assert (refused.value.status, refused.value.code) == (429, "account_queue_full")
    assert check(CALLER, submission).slug == "helper"


def test_an_account_has_no_more_jobs_than_it_may_with_those_that_ended(settings: Any) -> None:
    settings.JOB_ACCOUNT_MAX = 2
    Chain.objects.create(slug="helper", runnable="assistant", model="openai:x", base_url="http://x")
    submission = Submission(chain="helper", input={"messages": [{"role": "user", "content": "Hi"}]})
    full = replace(CALLER, account_id=make_job("cancelled").account_id)
    services.STORED.forget(full.account_id)
    assert check(full, submission).slug == "helper"
    make_job("succeeded")
    services.STORED.forget(full.account_id)
    with pytest.raises(StoredExceeded, match="JOB_ACCOUNT_MAX") as refused:
        check(full, submission)
    assert (refused.value.status, refused.value.code) == (429, "too_many_jobs")
    assert check(CALLER, submission).slug == "helper"
    services.STORED.forget(full.account_id)


def test_an_accounts_documents_take_no_more_bytes_than_they_may(settings: Any) -> None:
    settings.JOB_ACCOUNT_FILE_BYTES = 1000
    Chain.objects.create(slug="helper", runnable="assistant", model="openai:x", base_url="http://x")
    text = Submission(chain="helper", input={"messages": [{"role": "user", "content": "Hi"}]})
    document = replace(text, file=Original(ReceivedFile(BytesIO(b"x")), suffix=".txt"))
    full = replace(CALLER, account_id=make_job("succeeded", file_bytes=999).account_id)
    services.STORED_FILES.forget(full.account_id)
    assert check(full, document).slug == "helper"
    make_job("failed", file_bytes=1)
    services.STORED_FILES.forget(full.account_id)
    with pytest.raises(StoredExceeded, match="JOB_ACCOUNT_FILE_BYTES") as refused:
        check(full, document)
    assert (refused.value.status, refused.value.code) == (429, "too_many_file_bytes")
    assert check(full, text).slug == "helper"
    assert check(CALLER, document).slug == "helper"
    services.STORED_FILES.forget(full.account_id)
