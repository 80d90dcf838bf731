"""Calls of the API of jobs."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.calls import read_events
from tests.support.waiting import eventually

ENDS = ("succeeded", "failed", "cancelled")


def post(http: httpx.Client, chain: str, value: Any, **more: Any) -> dict[str, Any]:
    """Post a job that is accepted; return it."""
    response = http.post("/v1/jobs", json={"chain": chain, "input": value, **more})
    assert response.status_code == 202, response.text
    body: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/v1/jobs/{body['id']}"
    return body


def get(http: httpx.Client, job_id: str) -> dict[str, Any]:
    """Return a job."""
    response = http.get(f"/v1/jobs/{job_id}")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def wait(http: httpx.Client, job_id: str, *statuses: str, seconds: float = 30) -> dict[str, Any]:
    """Return a job once it has one of these statuses."""

    def look() -> dict[str, Any] | None:
        job = get(http, job_id)
        return job if job["status"] in (statuses or ENDS) else None

    job = eventually(look, seconds=seconds, what=lambda: f"its status: {get(http, job_id)}")
    assert job is not None
    return job


def events_of(http: httpx.Client, job_id: str, after: str | None = None) -> list[tuple[str, Any]]:
    """Return all events of a job."""
    headers = {} if after is None else {"Last-Event-ID": after}
    with http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
        assert response.status_code == 200
        return [event for event in read_events(response) if event[0] != ":"]


def messages(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}
