"""Documents and forms that are made to cost: what each gets, and what others get beside them."""

from __future__ import annotations

import re
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from config.api.errors import ApiError
from jobs.documents import process
from jobs.documents.budgets import Budget, budget_of
from jobs.documents.process import Reading
from jobs.documents.reading import read_document
from jobs.documents.received import ReceivedFile
from tests.hostile import forms, pdfs
from tests.stack_plugin import EmbeddedStack
from tests.support import documents

pytestmark = pytest.mark.faults

ANSWERS = {202, 400, 413, 415, 422}
# What is not the form's: the bounds of JSON, and the longest text on its way to PostgreSQL.
STALLS_ELSEWHERE = {"wide_json", "wide_metadata", "text_of_emoji", "text_of_escapes"}
STALLS = re.compile(r"^headrace_event_loop_stall_seconds_count (\S+)$", re.M)


@pytest.mark.parametrize("name", pdfs.BOMBS)
def test_a_hostile_pdf_ends_within_its_budget(name: str, monkeypatch, settings):
    settings.JOB_FILE_PATIENCE_SECONDS = 100.0
    readings: list[Reading] = []
    read_pdf = process.read_pdf

    def measured(fd: int, budget: Budget) -> Reading:
        readings.append(read_pdf(fd, budget))
        return readings[-1]

    monkeypatch.setattr(process, "read_pdf", measured)
    data = pdfs.BOMBS[name]()
    with ReceivedFile(tempfile.TemporaryFile(), "a.pdf", "", len(data)) as file:
        file.write(data)
        try:
            read_document(file, account_id=uuid.uuid4())
            status = 202
        except ApiError as error:
            status = error.status
    assert status in (202, 422)
    [reading] = readings
    assert reading.cpu_seconds <= budget_of(len(data)).cpu_seconds


def upload(http: httpx.Client, data: bytes) -> httpx.Response:
    return http.post("/v1/jobs", data={"chain": "mirror"}, files={"file": ("a.pdf", data)})


def stalls_at(url: str) -> float:
    found = STALLS.search(httpx.get(f"{url}/metrics", timeout=30).text)
    assert found is not None
    return float(found[1])


def test_another_accounts_documents_are_read_beside_one_accounts_bombs(
    http: httpx.Client, other_http: httpx.Client
):
    is_over = threading.Event()
    beside: list[int] = []

    def honest() -> None:
        while not is_over.is_set():
            beside.append(upload(http, documents.pdf(2)).status_code)
            time.sleep(0.5)

    bombs = [make() for make in pdfs.COSTLY]
    with ThreadPoolExecutor(9) as pool:
        reader = pool.submit(honest)
        answers = Counter(pool.map(lambda bomb: upload(other_http, bomb).status_code, bombs))
        is_over.set()
        reader.result()
    assert set(beside) == {202}
    # What the attacker lacks is its own share and room; on a slow machine that is all it gets.
    assert answers.keys() <= {202, 422, 429, 503}
    assert answers[202] + answers[422] >= 1, "none was read"


def every_form() -> list[tuple[str, forms.Form]]:
    named = [(name, make()) for name, make in forms.FORMS.items()]
    named += [(f"name {number}", form) for number, form in enumerate(forms.names())]
    return named + [(f"type {number}", form) for number, form in enumerate(forms.types())]


def test_a_hostile_form_is_refused_or_taken_and_never_holds_the_loop(
    stack: EmbeddedStack, node_urls: list[str], chains: None
):
    url, key = node_urls[0], stack.demo_key.encode()
    stalled = []
    statuses: Counter[int] = Counter()
    for name, (kind, body) in every_form():
        before = stalls_at(url)
        answer = httpx.post(
            f"{url}/v1/jobs",
            content=body.replace(forms.CHAIN, forms.field(b"chain", b"mirror")),
            headers=[(b"Content-Type", kind), (b"Authorization", b"Bearer " + key)],
            timeout=60,
        )
        assert answer.status_code in ANSWERS, (name, answer.text[:300])
        statuses[answer.status_code] += 1
        assert answer.headers["content-type"] == "application/json", name
        if stalls_at(url) != before and name not in STALLS_ELSEWHERE:
            stalled.append(name)
    assert not stalled
    # Read to the end, and refused by what they hold.
    assert statuses[202], statuses
    assert statuses[400] + statuses[422] > statuses[415], statuses
