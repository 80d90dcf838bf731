"""Jobs that are cancelled, time out, fail or are retried, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx

from tests.jobs.calls import events_of, get, messages, post, wait
from tests.provider import Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import client_with, error_of, manage
from tests.support.waiting import slack


def test_a_running_job_is_cancelled_within_two_seconds_and_its_call_aborted(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    job = post(http, "provider-hang", messages(marker))
    call = provider.wait_for_call(marker)
    started = time.monotonic()
    answer = http.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert answer["status"] in ("cancelling", "cancelled")
    done = wait(http, job["id"], "cancelled", seconds=3)
    assert time.monotonic() - started < slack(3)
    assert done["finished_at"]
    assert provider.seconds_until_hung_up(call, since=started) < 3
    # A second time changes nothing.
    assert http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"


def test_a_waiting_job_is_cancelled_at_once(http: httpx.Client) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    job = post(http, "echo", "later", run_at=later)
    assert http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"
    assert [name for name, _ in events_of(http, job["id"])] == ["status", "done"]


def test_a_job_waits_for_its_time(http: httpx.Client) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    job = post(http, "echo", "soon", run_at=soon.isoformat())
    assert get(http, job["id"])["status"] == "queued"
    done = wait(http, job["id"])
    assert done["started_at"] >= int(soon.timestamp())


def test_a_transient_fault_is_retried_and_a_permanent_one_is_not(http: httpx.Client) -> None:
    job = post(http, "provider-fail-500", messages("x"), max_attempts=2)
    done = wait(http, job["id"])
    assert (done["status"], done["attempts"]) == ("failed", 2)
    assert done["error"]["code"] == "provider_error"
    names = [data.get("reason") for name, data in events_of(http, job["id"]) if name == "status"]
    assert "failed" in names
    job = post(http, "provider-leaky-400", messages("x"))
    done = wait(http, job["id"])
    assert (done["status"], done["attempts"]) == ("failed", 1)
    assert "SECRET" not in json.dumps(done)


def test_a_jobs_timeout_is_enforced(http: httpx.Client, provider: Provider, marker: str) -> None:
    job = post(http, "provider-hang", messages(marker), timeout_seconds=1)
    done = wait(http, job["id"], seconds=10)
    assert done["status"] == "failed"
    assert done["error"]["code"] == "job_timeout"
    assert done["attempts"] == 1


def test_a_retry_does_not_pay_again_for_what_was_answered(
    http: httpx.Client, provider: Provider, save_chains: Callable[..., None], marker: str
) -> None:
    text = "\n\n".join(f"{marker} {n}. " + "word " * 300 for n in range(12))
    chain = {
        "slug": "summarize-then-fail",
        "runnable": "summarize",
        "model": "openai:fail-whole",
        "base_url": provider.base_url,
    }
    save_chains(chain)
    job = post(http, "summarize-then-fail", {"text": text}, max_attempts=1)
    assert wait(http, job["id"])["status"] == "failed"
    paid = len(provider.calls_of(marker))
    assert paid > 1
    save_chains({**chain, "model": "openai:fail-whole"})
    again = http.post(f"/v1/jobs/{job['id']}/retry")
    assert again.status_code == 202
    assert again.json()["status"] == "queued"
    wait(http, job["id"])
    assert len(provider.calls_of(marker)) == paid


def test_only_what_failed_or_was_cancelled_can_be_retried(http: httpx.Client) -> None:
    job = post(http, "echo", "fine")
    wait(http, job["id"])
    error_of(http.post(f"/v1/jobs/{job['id']}/retry"), 409, "job_not_retryable")


def test_a_job_that_fails_while_it_is_cancelled_is_cancelled(http: httpx.Client) -> None:
    for _ in range(3):
        job = post(http, "fails_slowly", 0.4)
        wait(http, job["id"], "running")
        http.post(f"/v1/jobs/{job['id']}/cancel")
        assert wait(http, job["id"], seconds=3)["status"] == "cancelled"


def test_a_retry_is_bound_by_the_limits_of_its_key(
    http: httpx.Client, stack: EmbeddedStack
) -> None:
    made = json.loads(
        manage(stack, "apikey", "create", "--name=poor", "--tokens-per-day=5", "--json")
    )
    with client_with(stack, made["key"]) as poor:
        job = post(poor, "provider-hello", messages("Hello"))
        wait(poor, job["id"], "succeeded")
        error_of(
            poor.post("/v1/jobs", json={"chain": "echo", "input": "x"}),
            429,
            "tokens_per_day_exceeded",
        )
        error_of(poor.post(f"/v1/jobs/{job['id']}/retry"), 429, "tokens_per_day_exceeded")
