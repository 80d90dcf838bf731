"""Jobs that are a worker's by the database, and that the worker does not know of."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from tests.stack_plugin import EmbeddedStack
from tests.support.calls import client_with
from tests.support.waiting import eventually

# As when the answer to a claim is lost on its way.
CLAIM_UNHEARD = """
WITH job AS (
    UPDATE jobs_job SET status = 'running', lease = %(lease)s, attempts = attempts + 1,
        is_due = true, run_at = NULL, worker_id = (SELECT id FROM jobs_worker WHERE state = 'ready'
                                    AND lease_until > now() ORDER BY heartbeat_at DESC LIMIT 1)
    WHERE id = %(job)s RETURNING id, attempts, worker_id
)
INSERT INTO jobs_attempt (id, job_id, number, worker_id, worker_name, outcome, error_code,
                          error_message, traceback)
SELECT %(lease)s, id, attempts, worker_id, 'w', 'running', '', '', '' FROM job
"""


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_job_that_its_worker_never_heard_of_is_run_again(
    stack: EmbeddedStack, chains: None, is_cancelled: bool
) -> None:
    with client_with(stack, stack.demo_key) as http:
        body = {"chain": "echo", "input": "x", "run_at": "2100-01-01T00:00:00Z"}
        job = http.post("/v1/jobs", json=body).json()
        with psycopg.connect(stack.database_url, autocommit=True) as connection:
            params = {"job": uuid.UUID(job["id"].removeprefix("job_")), "lease": uuid.uuid4()}
            assert connection.execute(CLAIM_UNHEARD, params).rowcount == 1
        if is_cancelled:
            http.post(f"/v1/jobs/{job['id']}/cancel")
        path = f"/v1/jobs/{job['id']}"
        eventually(
            lambda: http.get(path).json()["finished_at"] is not None,
            seconds=10,
            what="the job ends",
        )
        seen = http.get(path).json()
    assert (seen["status"], seen["attempts"]) == (
        ("cancelled", 1) if is_cancelled else ("succeeded", 2)
    )
