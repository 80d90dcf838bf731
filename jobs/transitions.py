"""The ways out of `running` and `queued`: each one statement, which does nothing if it comes late.

Every statement names the state, and the lease where there is one, that it expects. What it returns
says whether it was still so. Results, events, the attempt's end and the notices are written
together or not at all.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.db import connection

from jobs.failures import Failure

# What follows an UPDATE that ended jobs, named `ended`.
AFTER_END = """
closed AS (
    UPDATE jobs_attempt a SET outcome = %(outcome)s, ended_at = now(),
        error_code = ended.error_code, error_message = ended.error_message,
        traceback = %(traceback)s
    FROM ended WHERE a.id = ended.old_lease AND a.outcome = 'running'
), told AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT id, last_event, 'done', jsonb_build_object('status', status) FROM ended
), notices AS (
    INSERT INTO jobs_delivery (id, job_id, account_id, channel, event_type, target, status,
                               attempts, give_up_at)
    SELECT gen_random_uuid(), id, account_id, channel, 'job.' || status, target, 'pending', 0,
           now() + %(notice_hours)s * interval '1 hour'
    FROM ended, LATERAL (VALUES ('webhook', webhook_url), ('email', notify_email))
         AS receiver (channel, target)
    WHERE target <> ''
)
SELECT id FROM ended
"""

END = f"""
WITH old AS (
    SELECT id, lease FROM jobs_job
    WHERE id = %(job_id)s AND status = %(expected)s AND lease IS NOT DISTINCT FROM %(lease)s
    FOR UPDATE
), ended AS (
    UPDATE jobs_job j SET status = %(status)s, output = %(output)s::jsonb,
        error_code = %(error_code)s, error_message = %(error_message)s,
        prompt_tokens = coalesce(%(prompt_tokens)s, prompt_tokens),
        completion_tokens = coalesce(%(completion_tokens)s, completion_tokens),
        lease = NULL, worker_id = NULL, finished_at = now(), last_event = last_event + 1
    FROM old WHERE j.id = old.id
    RETURNING j.*, old.lease AS old_lease
), {AFTER_END}
"""

GIVE_BACK = """
WITH old AS (
    SELECT id, lease FROM jobs_job
    WHERE id = %(job_id)s AND status = 'running' AND lease = %(lease)s
    FOR UPDATE
), back AS (
    UPDATE jobs_job j SET status = 'queued', is_due = %(delay)s = 0,
        run_at = CASE WHEN %(delay)s = 0 THEN j.run_at
                 ELSE now() + %(delay)s * interval '1 second' END,
        attempts = j.attempts - CASE WHEN %(is_counted)s THEN 0 ELSE 1 END,
        error_code = %(error_code)s, error_message = %(error_message)s,
        lease = NULL, worker_id = NULL, last_event = last_event + 1
    FROM old WHERE j.id = old.id
    RETURNING j.id, j.last_event, old.lease AS old_lease
), closed AS (
    UPDATE jobs_attempt a SET outcome = %(outcome)s, ended_at = now(),
        error_code = %(error_code)s, error_message = %(error_message)s, traceback = %(traceback)s
    FROM back WHERE a.id = back.old_lease AND a.outcome = 'running'
), told AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT id, last_event, 'status', jsonb_strip_nulls(jsonb_build_object(
        'status', 'queued', 'reason', %(outcome)s,
        'error_code', nullif(%(error_code)s, ''))) FROM back
)
SELECT id FROM back
"""

ADD_EVENTS = """
WITH job AS (
    UPDATE jobs_job SET last_event = last_event + %(count)s,
        progress_completed = coalesce(%(completed)s, progress_completed),
        progress_total = coalesce(%(total)s, progress_total),
        progress_message = coalesce(%(message)s, progress_message)
    WHERE id = %(job_id)s AND status = 'running' AND lease = %(lease)s
    RETURNING id, last_event
), told AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT job.id, job.last_event - %(count)s + e.place, e.event->>'kind', e.event->'data'
    FROM job, jsonb_array_elements(%(events)s::jsonb) WITH ORDINALITY AS e (event, place)
)
SELECT id FROM job
"""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What an attempt used; None when no provider told any."""

    prompt: int | None = None
    completion: int | None = None


def succeed(*, job_id: uuid.UUID, lease: uuid.UUID, output: bytes, tokens: Tokens) -> bool:
    """End a running job with its output, which is JSON; False if the lease is lost."""
    return _end(
        job_id=job_id, lease=lease, status="succeeded", outcome="succeeded",
        output=without_nul(output.decode()), tokens=tokens,
    )  # fmt: skip


def fail(
    *,
    job_id: uuid.UUID,
    lease: uuid.UUID,
    failure: Failure,
    outcome: str = "failed",
    tokens: Tokens | None = None,
) -> bool:
    """End a running job for good; False if the lease is lost."""
    return _end(
        job_id=job_id, lease=lease, status="failed", outcome=outcome, failure=failure,
        tokens=tokens or Tokens(),
    )  # fmt: skip


def cancel(*, job_id: uuid.UUID, lease: uuid.UUID | None, tokens: Tokens | None = None) -> bool:
    """End a job as cancelled: a queued one (`lease` None), or a running one whose run has ended."""
    return _end(
        job_id=job_id, lease=lease, status="cancelled", outcome="cancelled",
        tokens=tokens or Tokens(),
    )  # fmt: skip


def give_back(
    *,
    job_id: uuid.UUID,
    lease: uuid.UUID,
    outcome: str,
    is_counted: bool,
    delay_seconds: float = 0.0,
    failure: Failure | None = None,
) -> bool:
    """Make a running job wait again; False if the lease is lost.

    `is_counted` says whether the attempt counts against `max_attempts`.
    """
    return _changed(
        GIVE_BACK,
        {
            "job_id": job_id,
            "lease": lease,
            "outcome": outcome,
            "is_counted": is_counted,
            "delay": delay_seconds,
            **_error(failure),
        },
    )


def add_events(
    *,
    job_id: uuid.UUID,
    lease: uuid.UUID,
    events: Sequence[dict[str, Any]],
    completed: int | None = None,
    total: int | None = None,
    message: str | None = None,
) -> bool:
    """Append events `{"kind", "data"}` of a running job and its progress; False if it is lost."""
    return _changed(
        ADD_EVENTS,
        {
            "job_id": job_id,
            "lease": lease,
            "count": len(events),
            "events": without_nul(orjson.dumps(list(events)).decode()),
            "completed": completed,
            "total": total,
            "message": message,
        },
    )


def without_nul(json_text: str) -> str:
    r"""Return JSON without the escape `\u0000`, which PostgreSQL cannot store."""
    if "\\u0000" not in json_text:
        return json_text
    return orjson.dumps(_strip(orjson.loads(json_text))).decode()


def _strip(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_strip(item) for item in value]
    if isinstance(value, dict):
        return {_strip(key): _strip(item) for key, item in value.items()}
    return value


def _end(
    *,
    job_id: uuid.UUID,
    lease: uuid.UUID | None,
    status: str,
    outcome: str,
    tokens: Tokens,
    output: str | None = None,
    failure: Failure | None = None,
) -> bool:
    return _changed(
        END,
        {
            "job_id": job_id,
            "lease": lease,
            "expected": "queued" if lease is None else "running",
            "status": status,
            "outcome": outcome,
            "output": output,
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.completion,
            "notice_hours": settings.WEBHOOK_GIVE_UP_HOURS,
            **_error(failure),
        },
    )


def _error(failure: Failure | None) -> dict[str, str]:
    return {
        "error_code": failure.code if failure else "",
        "error_message": failure.message.replace("\0", "") if failure else "",
        "traceback": failure.traceback.replace("\0", "") if failure else "",
    }


def _changed(statement: str, params: dict[str, Any]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchone() is not None
