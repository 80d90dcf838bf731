"""Jobs that are submitted again with their `Idempotency-Key`, over HTTP."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.calls import error_of

AT_ONCE = 20


@pytest.fixture
def mark() -> str:
    """Metadata by which a test finds its own jobs, and a key that no other test has used."""
    return f"test {uuid.uuid4()}"


def submit(
    client: httpx.Client, mark: str, text: str = "Hello", *, chain: str = "echo", **more: Any
) -> httpx.Response:
    """Post a job with the mark as its key."""
    body = {"chain": chain, "input": text, "metadata": {"mark": mark}, **more}
    return client.post("/v1/jobs", json=body, headers={"Idempotency-Key": mark})


def jobs_of(client: httpx.Client, mark: str) -> list[dict[str, Any]]:
    """Return the newest jobs that bear the mark."""
    jobs = client.get("/v1/jobs", params={"limit": 100}).json()["data"]
    return [job for job in jobs if job["metadata"].get("mark") == mark]


def test_the_first_answer_comes_again_and_there_is_one_job(http: httpx.Client, mark: str) -> None:
    first = submit(http, mark)
    assert first.status_code == 202, first.text
    assert "idempotent-replayed" not in first.headers
    for _ in range(4):
        again = submit(http, mark)
        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["location"] == first.headers["location"]
        assert again.headers["idempotent-replayed"] == "true"
    assert [job["id"] for job in jobs_of(http, mark)] == [first.json()["id"]]


def test_another_submission_with_the_same_key_is_refused(http: httpx.Client, mark: str) -> None:
    assert submit(http, mark).status_code == 202
    for other in ({"text": "other"}, {"priority": 1}, {"chain": "mirror"}):
        error_of(submit(http, mark, **other), 422, "idempotency_key_reused")
    assert len(jobs_of(http, mark)) == 1


def test_of_many_at_the_same_instant_over_both_nodes_one_is_a_job(
    http: httpx.Client, nodes: list[httpx.Client], mark: str
) -> None:
    assert len(nodes) == 2
    barrier = threading.Barrier(AT_ONCE)

    def send(number: int) -> httpx.Response:
        barrier.wait()
        return submit(nodes[number % 2], mark)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        responses = list(pool.map(send, range(AT_ONCE)))
    assert {response.status_code for response in responses} == {202}
    first, *others = (response.json() for response in responses)
    assert all(other == first for other in others)
    replayed = [response.headers.get("idempotent-replayed") for response in responses]
    assert replayed.count("true") == AT_ONCE - 1
    assert [job["id"] for job in jobs_of(http, mark)] == [first["id"]]


def test_of_many_different_ones_at_the_same_instant_one_is_a_job(
    http: httpx.Client, nodes: list[httpx.Client], mark: str
) -> None:
    barrier = threading.Barrier(AT_ONCE)

    def send(number: int) -> httpx.Response:
        barrier.wait()
        return submit(nodes[number % 2], mark, f"text {number}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = [response.status_code for response in pool.map(send, range(AT_ONCE))]
    assert sorted(statuses) == [202, *[422] * (AT_ONCE - 1)]
    assert len(jobs_of(http, mark)) == 1


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"priority": 99}, 400, None),
        ({"nonsense": True}, 400, "unsupported_parameter"),
        ({"chain": "no-such-chain"}, 404, "model_not_found"),
    ],
)
def test_an_invalid_submission_makes_no_job_and_takes_no_key(
    http: httpx.Client, mark: str, more: dict[str, Any], status: int, code: str | None
) -> None:
    for _ in range(2):
        error_of(submit(http, mark, **more), status, code)
    assert jobs_of(http, mark) == []
    valid = submit(http, mark)
    assert valid.status_code == 202
    assert "idempotent-replayed" not in valid.headers


def test_an_input_that_the_chain_does_not_take_makes_no_job(http: httpx.Client, mark: str) -> None:
    refused = submit(http, mark, chain="typed", input={"count": "many"})
    assert 400 <= refused.status_code < 500, refused.text
    assert jobs_of(http, mark) == []
    assert submit(http, mark).status_code == 202


def test_a_key_is_the_account_s_own(
    http: httpx.Client, other_http: httpx.Client, mark: str
) -> None:
    mine, theirs = submit(http, mark), submit(other_http, mark)
    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert mine.json()["id"] != theirs.json()["id"]
    assert "idempotent-replayed" not in theirs.headers


def test_keys_of_one_account_share_what_they_have_sent(
    make_http: Any, chains: None, mark: str
) -> None:
    first, second = submit(make_http("shared 1"), mark), submit(make_http("shared 2"), mark)
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("bad", ["", "x" * 256])
def test_a_key_that_is_none_is_refused(http: httpx.Client, bad: str) -> None:
    body = {"chain": "echo", "input": "Hello"}
    response = http.post("/v1/jobs", json=body, headers={"Idempotency-Key": bad})
    error_of(response, 400, "invalid_idempotency_key")


def test_without_a_key_every_submission_is_a_job(http: httpx.Client, mark: str) -> None:
    body = {"chain": "echo", "input": "Hello", "metadata": {"mark": mark}}
    for _ in range(2):
        assert http.post("/v1/jobs", json=body).status_code == 202
    assert len(jobs_of(http, mark)) == 2
