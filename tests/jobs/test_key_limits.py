"""A key's limits bind its jobs, and the requests for them that last."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.jobs.calls import get, messages, post, wait
from tests.jobs.notifications.test_connections import under_way
from tests.provider import Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import client_with, error_of, manage
from tests.support.waiting import eventually

RAISE_LIMIT = """
from access.models import ApiKey
from jobs.models import Job
ApiKey.objects.filter(pk="{key_id}").update(tokens_per_day=0)
Job.objects.filter(status="queued", api_key="{key_id}").update(is_due=True, run_at=None)
"""


@contextlib.contextmanager
def key_with(stack: EmbeddedStack, *options: str) -> Iterator[tuple[httpx.Client, dict[str, Any]]]:
    made = json.loads(manage(stack, "apikey", "create", "--name=bounded", *options, "--json"))
    with client_with(stack, made["key"]) as client:
        yield client, made


SEEN_SECONDS = 20


# --- Tokens of the day --------------------------------------------------------------------------
def test_many_jobs_at_once_use_no_more_than_the_day_has(
    stack: EmbeddedStack, provider: Provider, chains: None, marker: str
) -> None:
    with key_with(stack, "--tokens-per-day=5") as (http, _):
        at = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
        jobs = [
            post(http, "provider-hello", messages(f"{marker} {number}"), run_at=at)["id"]
            for number in range(12)
        ]
        eventually(
            lambda: all(get(http, job)["error"] or get(http, job)["output"] for job in jobs),
            seconds=SEEN_SECONDS,
            what="each job ran or was refused",
        )
        seen = [get(http, job) for job in jobs]
        assert len(provider.calls_of(marker)) == 1
        held = [job for job in seen if job["status"] == "queued"]
        assert len(held) == 11
        for job in held:
            assert job["error"]["code"] == "tokens_per_day_exceeded"
            # An attempt that could not begin is none.
            assert job["attempts"] == 0
            assert job["run_at"] > time.time()
            assert http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"


def test_a_job_stops_between_its_calls_and_goes_on_with_what_it_has(
    stack: EmbeddedStack, provider: Provider, chains: None, marker: str
) -> None:
    text = "\n\n".join(f"{marker} {n}. " + "word " * 300 for n in range(24))
    with key_with(stack, "--tokens-per-day=5") as (http, made):
        job = post(http, "summarize-quick", {"text": text})
        eventually(
            lambda: get(http, job["id"])["error"], seconds=SEEN_SECONDS, what="the job has an error"
        )
        paid = len(provider.calls_of(marker))
        assert paid == 1
        assert get(http, job["id"])["status"] == "queued"
        key_id = made["id"].partition("_")[2]
        manage(stack, "shell", "--no-imports", "-c", RAISE_LIMIT.format(key_id=key_id))
        done = wait(http, job["id"], "succeeded")
        assert done["attempts"] == 1
        calls = [json.dumps(call.body) for call in provider.calls_of(marker)]
        assert len(calls) == len(set(calls)) > 1


def test_a_response_that_is_waited_for_fails_and_does_not_wait_for_another_day(
    stack: EmbeddedStack, chains: None
) -> None:
    with key_with(stack, "--tokens-per-day=5") as (http, _):
        # More than one call's worth; the first uses up the day.
        body = {"model": "summarize-quick", "input": "word " * 6000}
        answer = http.post("/v1/responses", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "failed"
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"


# --- Requests at once ---------------------------------------------------------------------------
LASTING: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "response": ("POST", "/v1/responses", {"model": "provider-hang", "input": "Hello"}),
    "response stream": (
        "POST",
        "/v1/responses",
        {"model": "provider-hang", "input": "Hello", "stream": True},
    ),
    "job events": ("GET", "/v1/jobs/{job}/events", None),
}


@pytest.mark.parametrize("kind", LASTING)
def test_what_lasts_holds_a_slot_until_its_client_leaves(
    stack: EmbeddedStack, chains: None, kind: str
) -> None:
    method, path, body = LASTING[kind]
    with key_with(stack, "--max-concurrent=1") as (http, made):
        later = {"run_at": "2190-01-01T00:00:00Z"}
        path = path.format(job=post(http, "provider-hello", messages("Hi"), **later)["id"])
        with under_way(stack, [(method, path, body)], key=made["key"]):
            time.sleep(0.7)
            for _ in range(3):
                error_of(http.request(method, path, json=body), 429, "too_many_concurrent_requests")
            # What does not last is let in.
            assert http.get("/v1/jobs").status_code == 200
            assert post(http, "provider-hello", messages("Hi"), **later)["status"] == "queued"
        eventually(
            lambda: (
                http.post(
                    "/v1/chat/completions",
                    json={
                        "model": "provider-hello",
                        "messages": [{"role": "user", "content": "Hi"}],
                    },
                ).status_code
                == 200
            ),
            seconds=5,
            what="the slot is free",
        )


def test_an_upload_holds_a_slot(stack: EmbeddedStack, chains: None) -> None:
    with key_with(stack, "--max-concurrent=1") as (http, made):
        hang = (
            "POST",
            "/v1/chat/completions",
            {"model": "provider-hang", "messages": [{"role": "user", "content": "Hi"}]},
        )
        files = {"file": ("a.txt", b"Hello", "text/plain")}
        with under_way(stack, [hang], key=made["key"]):
            time.sleep(0.7)
            refused = http.post("/v1/jobs", data={"chain": "summarize-quick"}, files=files)
            error_of(refused, 429, "too_many_concurrent_requests")
        eventually(
            lambda: (
                http.post("/v1/jobs", data={"chain": "summarize-quick"}, files=files).status_code
                == 202
            ),
            seconds=5,
            what="the slot is free",
        )
