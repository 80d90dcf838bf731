"""Jobs over HTTP: a real worker runs them, and every node streams the same events."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.jobs.calls import events_of, messages, post, wait
from tests.odd_chunks import BIG, CUT
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import error_of, read_events


def test_the_response_to_a_submission_has_its_position_in_the_log(http: httpx.Client) -> None:
    response = http.post("/v1/jobs", json={"chain": "provider-hello", "input": messages("Hello")})
    assert response.status_code == 202, response.text
    assert re.fullmatch(r"[0-9A-F]+-[0-9A-F]+", response.headers["x-headrace-position"])


def test_a_job_is_accepted_at_once_and_runs(http: httpx.Client) -> None:
    job = post(http, "provider-hello", messages("Hello"), metadata={"order": "7"})
    assert job["status"] == "queued"
    assert job["output"] is None
    done = wait(http, job["id"])
    assert done["status"] == "succeeded"
    assert done["output"] == {"role": "assistant", "content": "Hello there."}
    assert done["usage"] == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    assert done["metadata"] == {"order": "7"}
    assert done["attempts"] == 1
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]


def test_inputs_arrive_as_the_chain_takes_them(http: httpx.Client) -> None:
    value = {"a": [1, 2, {"b": None}]}
    assert wait(http, post(http, "mirror", value)["id"])["output"] == value
    names = wait(http, post(http, "names", messages("x"))["id"])["output"]
    assert names == {"messages": ["HumanMessage"]}


def test_progress_and_summary_of_a_long_document(http: httpx.Client) -> None:
    text = "\n\n".join(f"Paragraph {n}. " + "word " * 300 for n in range(20))
    job = post(http, "summarize-quick", {"text": text})
    done = wait(http, job["id"])
    assert done["status"] == "succeeded", done
    assert done["output"] == "A short summary."
    assert done["progress"]["completed"] == done["progress"]["total"] > 1
    assert any(name == "progress" for name, _ in events_of(http, job["id"]))


def test_the_event_stream_is_complete_during_the_run_and_after_its_end(http: httpx.Client) -> None:
    job = post(http, "provider-slow-stream", messages("Count"))
    live = events_of(http, job["id"])
    names = [name for name, _ in live]
    assert names[:2] == ["status", "status"]
    assert names[-1] == "done"
    text = "".join(data["text"] for name, data in live if name == "tokens")
    assert text == "One two three four five six seven eight."
    assert names.count("tokens") > 2
    assert live[-1][1]["status"] == "succeeded"
    assert events_of(http, job["id"]) == live
    # From the third event on, as after a lost connection.
    assert events_of(http, job["id"], after="2") == live[3:]
    last = str(len(live) - 1)
    assert events_of(http, job["id"], after=last) == live[-1:]


@pytest.mark.parametrize(
    "last", ["-1", "x", "1.5", "9" * 30, "٣", "0" * 21 + "99999999999", "0" * 5000]
)
def test_a_bad_last_event_id_is_refused(http: httpx.Client, last: str) -> None:
    headers = {b"Last-Event-ID": last.encode()}
    response = http.get("/v1/jobs/job_" + "0" * 32 + "/events", headers=headers)
    error_of(response, 400, None)


def test_jobs_are_listed_by_status_and_chain(make_http: Callable[[str], httpx.Client]) -> None:
    http = make_http("pages")
    ids = [post(http, "echo", f"n {n}")["id"] for n in range(3)]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    waiting = post(http, "mirror", "later", run_at=later)["id"]
    for job_id in ids:
        wait(http, job_id)
    page = http.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in page["data"]] == [waiting, ids[2]]
    assert page["has_more"]
    rest = http.get("/v1/jobs", params={"after": page["last_id"]}).json()
    assert [job["id"] for job in rest["data"]] == [ids[1], ids[0]]
    queued = http.get("/v1/jobs", params={"status": "queued"}).json()
    assert [job["id"] for job in queued["data"]] == [waiting]
    mirrors = http.get("/v1/jobs", params={"chain": "mirror"}).json()
    assert [job["id"] for job in mirrors["data"]] == [waiting]
    error_of(http.get("/v1/jobs", params={"status": "lost"}), 400, None)
    http.post(f"/v1/jobs/{waiting}/cancel")


def test_another_accounts_job_is_not_found(http: httpx.Client, other_http: httpx.Client) -> None:
    job_id = post(http, "echo", "mine")["id"]
    for method, path in (
        ("GET", ""),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ):
        response = other_http.request(method, f"/v1/jobs/{job_id}{path}")
        error_of(response, 404, "job_not_found")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"input": "x"}, 400, None, "chain"),
        ({"chain": "echo"}, 400, None, "input"),
        ({"chain": "no-such", "input": "x"}, 404, "model_not_found", "chain"),
        ({"chain": "disabled", "input": "x"}, 404, "model_not_found", "chain"),
        ({"chain": "summarize", "input": {"text": 7}}, 422, "invalid_input", "input.text"),
        ({"chain": "echo", "input": "x", "colour": 1}, 400, "unsupported_parameter", "colour"),
        ({"chain": "echo", "input": "x", "priority": 10}, 400, None, "priority"),
        ({"chain": "echo", "input": "x", "priority": "5"}, 400, None, "priority"),
        ({"chain": "echo", "input": "x", "timeout_seconds": 0}, 400, None, "timeout_seconds"),
        ({"chain": "echo", "input": "x", "max_attempts": 99}, 400, None, "max_attempts"),
        ({"chain": "echo", "input": "x", "run_at": "tomorrow"}, 400, None, "run_at"),
        ({"chain": "echo", "input": "x", "run_at": "2030-01-01T00:00:00"}, 400, None, "run_at"),
        ({"chain": "echo", "input": "x", "notify_email": "no"}, 400, None, "notify_email"),
        ({"chain": "echo", "input": "x", "webhook_url": "ftp://x"}, 400, None, "webhook_url"),
        ({"chain": "echo", "input": "x", "metadata": {"a": 1}}, 400, None, "metadata.a"),
    ],
)
def test_a_bad_submission_is_refused(
    http: httpx.Client, body: dict[str, Any], status: int, code: str | None, param: str
) -> None:
    error = error_of(http.post("/v1/jobs", json=body), status, code)
    assert error["param"] == param


def test_hostile_texts_pass_unharmed(http: httpx.Client) -> None:
    value = {"a": "<script>\u2028'\";--", "b": "😀"}
    assert wait(http, post(http, "mirror", value)["id"])["output"] == value
    # PostgreSQL cannot store a NUL.
    error_of(
        http.post("/v1/jobs", json={"chain": "mirror", "input": {"a\0": "b"}}), 422, "invalid_input"
    )
    assert wait(http, post(http, "provider-nul", messages("x"))["id"])["output"]["content"] == "ab"


def test_the_job_of_any_chain_ends_and_others_go_on(http: httpx.Client) -> None:
    expected = dict.fromkeys(
        [
            "no number",
            "error",
            "permanent error",
            "long code",
            "exit",
            "interrupt",
            "generator",
        ],
        "failed",
    ) | dict.fromkeys(["progress", "odd progress", "surrogate", "huge number"], "succeeded")
    innocent = post(http, "provider-slow-stream", messages("Hello"))
    jobs = {how: post(http, "hostile", how, max_attempts=1)["id"] for how in expected}
    ended = {how: wait(http, job_id, seconds=10) for how, job_id in jobs.items()}
    assert {how: job["status"] for how, job in ended.items()} == expected
    for how, job in ended.items():
        assert bool(job["error"]) == (job["status"] == "failed"), how
        assert events_of(http, job["id"])[-1][0] == "done", how
    assert ended["surrogate"]["output"] == "abc \ufffd"
    assert ended["huge number"]["output"] == {"n": 2**70}
    assert wait(http, innocent["id"])["attempts"] == 1


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 98765432109876543210987, 1e20, 1.5e22])
def test_a_number_of_any_size_is_the_same_everywhere(http: httpx.Client, number: float) -> None:
    value = {"mass": [number, {"more": number}]}
    job = post(http, "mirror", value)
    assert wait(http, job["id"])["output"] == value
    assert events_of(http, job["id"])[-1][1]["output"] == value
    listed = http.get("/v1/jobs", params={"limit": 1})
    assert listed.status_code == 200
    invoked = http.post("/chains/mirror/invoke", json={"input": value})
    assert invoked.json()["output"] == value


@pytest.mark.parametrize(
    ("how", "calls"),
    [
        ("cut call", [("c1", CUT)]),
        ("big call", [("c1", BIG)]),
        ("same index", [("c1", '{"q":"one"}'), ("c2", '{"q":"two"}')]),
        ("no index", [("c1", '{"q":"one"}'), ("c2", '{"q":"two"}')]),
    ],
)
def test_a_jobs_tool_calls_are_as_the_model_wrote_them(
    http: httpx.Client, how: str, calls: list[tuple[str, str]]
) -> None:
    output = wait(http, post(http, "odd", how)["id"])["output"]
    found = [(call["id"], call["function"]["arguments"]) for call in output["tool_calls"]]
    assert found == calls


def test_a_job_has_a_refusals_words_and_the_reasoning(http: httpx.Client) -> None:
    refused = wait(http, post(http, "odd", "refusal")["id"])["output"]
    assert (refused["content"], refused["refusal"]) == ("", "I cannot.")
    thought = wait(http, post(http, "odd", "reasoning")["id"])["output"]
    assert (thought["content"], thought["reasoning_content"]) == ("4", "Hm so.")


def test_a_job_whose_chain_can_no_longer_be_built_says_so(
    http: httpx.Client, save_chains: Callable[..., None]
) -> None:
    save_chains({"slug": "spoilt", "runnable": "echo"})
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    job = post(http, "spoilt", "x", run_at=later, max_attempts=1)
    http.post(f"/v1/jobs/{job['id']}/cancel")
    save_chains({"slug": "spoilt", "runnable": "cannot_be_built"})
    assert http.post(f"/v1/jobs/{job['id']}/retry").status_code == 202
    done = wait(http, job["id"])
    assert done["status"] == "failed"
    assert done["error"]["code"] == "chain_unavailable"
    assert "spoilt is unavailable" in done["error"]["message"]


def test_a_text_that_grows_beyond_an_output_ends_its_job(http: httpx.Client) -> None:
    job = post(http, "endless", "x" * 100_000)
    done = wait(http, job["id"])
    assert done["status"] == "failed"
    assert done["error"]["code"] == "output_too_large"
    assert done["attempts"] == 1
    texts = [data["text"] for name, data in events_of(http, job["id"]) if name == "tokens"]
    assert max(map(len, texts)) == 16_384
    assert 100_000 < sum(map(len, texts)) < 5_000_000


def test_null_is_an_input(http: httpx.Client) -> None:
    assert wait(http, post(http, "mirror", None)["id"])["status"] == "succeeded"


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "1969-12-31T23:59:59Z",
        "2201-01-01T00:00:00Z",
        "2030-01-31T09:00:00",
        "2030-01-31",
    ],
)
def test_a_time_that_python_cannot_read_is_refused(http: httpx.Client, time: str) -> None:
    body = {"chain": "echo", "input": "x", "run_at": time}
    assert error_of(http.post("/v1/jobs", json=body), 400, None)["param"] == "run_at"


def test_any_offset_of_a_time_will_do(http: httpx.Client) -> None:
    job = post(http, "echo", "x", run_at="2030-01-31T09:00:00+23:59")
    assert job["run_at"] == int(datetime(2030, 1, 30, 9, 1, tzinfo=UTC).timestamp())


def test_a_key_without_the_scope_is_refused(make_http: Callable[[str], httpx.Client]) -> None:
    http = make_http("without scopes")
    error_of(http.get("/v1/jobs"), 403, "missing_scope")


def test_the_status_command_shows_the_worker(stack: EmbeddedStack) -> None:
    worker = stack.part("worker1")
    assert worker["state"] == "ready"
    metrics = httpx.get(f"http://{worker['address']}/metrics").text
    assert "headrace_jobs_running" in metrics
    assert httpx.get(f"http://{worker['address']}/health/live").status_code == 200
    assert httpx.get(f"http://{worker['address']}/secret").status_code == 404


# --- Several nodes -----------------------------------------------------------
def test_a_story_that_began_on_one_node_goes_on_at_the_other(
    http: httpx.Client, nodes: list[httpx.Client]
) -> None:
    first, second = nodes
    job = post(first, "provider-slow-stream", messages("Hello"))
    seen: list[tuple[str, Any]] = []
    with first.stream("GET", f"/v1/jobs/{job['id']}/events") as response:
        for event in read_events(response):
            if event[0] != ":":
                seen.append(event)
            if len(seen) == 3:
                break
    rest = events_of(second, job["id"], after="2")
    assert [name for name, _ in seen] == ["status", "status", "tokens"]
    assert seen + rest == events_of(http, job["id"])
    assert (rest[-1][0], rest[-1][1]["status"]) == ("done", "succeeded")
