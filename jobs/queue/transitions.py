"""The ways out of `running` and `queued`: each one statement, which does nothing if it comes late.

Every statement names the state, and the lease where there is one, that it expects. What it returns
says whether it was still so. Results, events, the attempt's end and the notices are written
together or not at all.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import orjson
from django.conf import settings
from django.db import connection

from config.text import storable
from jobs.queue.failures import Failure
from scaling.replicas.routing import publish_position
from scaling.response_cache.invalidation import invalidated_while

MAX_CODE_CHARS = 64

END = """
WITH given AS (
    SELECT * FROM unnest(
        %(job_ids)s::uuid[], %(leases)s::uuid[], %(statuses)s::text[], %(outcomes)s::text[],
        ARRAY(SELECT value FROM jsonb_array_elements_text(%(outputs)s::jsonb)
              WITH ORDINALITY AS t (value, place) ORDER BY place),
        %(error_codes)s::text[], %(error_messages)s::text[],
        %(tracebacks)s::text[], %(prompt_tokens)s::integer[], %(completion_tokens)s::integer[],
        ARRAY(SELECT value FROM jsonb_array_elements_text(%(events)s::jsonb)
              WITH ORDINALITY AS t (value, place) ORDER BY place),
        ARRAY(SELECT value FROM jsonb_array_elements_text(%(progress)s::jsonb)
              WITH ORDINALITY AS t (value, place) ORDER BY place)
    ) AS g (job_id, lease, status, outcome, output, error_code, error_message, traceback,
            prompt_tokens, completion_tokens, events, progress)
), old AS (
    SELECT j.id, j.lease FROM jobs_job j JOIN given g ON j.id = g.job_id
    WHERE j.lease IS NOT DISTINCT FROM g.lease
      AND j.status = CASE WHEN g.lease IS NULL THEN 'queued' ELSE 'running' END
    ORDER BY j.id FOR UPDATE OF j
), ended AS (
    UPDATE jobs_job j SET status = g.status, output = g.output::jsonb,
        error_code = g.error_code, error_message = g.error_message,
        prompt_tokens = coalesce(g.prompt_tokens, j.prompt_tokens),
        completion_tokens = coalesce(g.completion_tokens, j.completion_tokens),
        progress_completed = coalesce((g.progress::jsonb->>'completed')::integer,
                                      j.progress_completed),
        progress_total = coalesce((g.progress::jsonb->>'total')::integer, j.progress_total),
        progress_message = coalesce(g.progress::jsonb->>'message', j.progress_message),
        lease = NULL, worker_id = NULL, finished_at = now(),
        last_event = j.last_event + jsonb_array_length(g.events::jsonb) + 1
    FROM old JOIN given g ON g.job_id = old.id
    WHERE j.id = old.id
    RETURNING j.id, j.account_id, j.webhook_url, j.notify_email, j.last_event, j.status
), closed AS (
    UPDATE jobs_attempt a SET outcome = g.outcome, ended_at = now(), error_code = g.error_code,
        error_message = g.error_message, traceback = g.traceback
    FROM ended JOIN given g ON g.job_id = ended.id
    WHERE a.id = g.lease AND a.outcome = 'running'
), told AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT ended.id, ended.last_event - jsonb_array_length(g.events::jsonb) - 1 + e.place,
           e.event->>'kind', e.event->'data'
    FROM ended JOIN given g ON g.job_id = ended.id,
         jsonb_array_elements(g.events::jsonb) WITH ORDINALITY AS e (event, place)
    UNION ALL
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
SELECT id, account_id FROM ended
"""

GIVE_BACK = """
WITH old AS (
    SELECT id, lease FROM jobs_job
    WHERE id = %(job_id)s AND status = 'running' AND lease = %(lease)s
      AND cancel_requested_at IS NULL
    FOR UPDATE
), back AS (
    UPDATE jobs_job j SET status = 'queued', is_due = %(delay)s = 0,
        run_at = CASE WHEN %(delay)s = 0 THEN j.run_at
                 ELSE now() + %(delay)s * interval '1 second' END,
        attempts = j.attempts - CASE WHEN %(is_counted)s THEN 0 ELSE 1 END,
        error_code = %(error_code)s, error_message = %(error_message)s,
        lease = NULL, worker_id = NULL, last_event = last_event + 1
    FROM old WHERE j.id = old.id
    RETURNING j.id, j.account_id, j.last_event, old.lease AS old_lease
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
SELECT account_id FROM back
"""

ADD_EVENTS = """
WITH job AS (
    UPDATE jobs_job SET last_event = last_event + %(count)s,
        progress_completed = coalesce((%(progress)s::jsonb->>'completed')::integer,
                                      progress_completed),
        progress_total = coalesce((%(progress)s::jsonb->>'total')::integer, progress_total),
        progress_message = coalesce(%(progress)s::jsonb->>'message', progress_message)
    WHERE id = %(job_id)s AND status = 'running' AND lease = %(lease)s
    RETURNING id, last_event
), told AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT job.id, job.last_event - %(count)s + e.place, e.event->>'kind', e.event->'data'
    FROM job, jsonb_array_elements(%(events)s::jsonb) WITH ORDINALITY AS e (event, place)
)
SELECT id FROM job
"""


class Event(TypedDict):
    """`progress` {completed, total, message} or `tokens` {text}."""

    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What an attempt used; None when no provider told any."""

    prompt: int | None = None
    completion: int | None = None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a job is to end: a running one under its `lease`, or a queued one (`lease` None)."""

    job_id: uuid.UUID
    lease: uuid.UUID | None
    status: str
    # The attempt's, when it is more than the status.
    outcome: str = ""
    # JSON text.
    output: str | None = None
    failure: Failure | None = None
    tokens: Tokens = Tokens()
    # What there is to tell before the end.
    events: Sequence[Event] = ()


def subject_of(job_id: uuid.UUID) -> str:
    """Return the name by which kept reads of a job end."""
    return f"job:{job_id.hex}"


def end(endings: Sequence[Ending]) -> set[uuid.UUID]:
    """End jobs for good, all or none; return those that were still in the state that was expected.

    No job may be among them twice.
    """
    errors = [_error(ending.failure) for ending in endings]
    subjects = [subject_of(ending.job_id) for ending in endings]
    with invalidated_while(subjects), connection.cursor() as cursor:
        cursor.execute(
            END,
            {
                "job_ids": [ending.job_id for ending in endings],
                "leases": [ending.lease for ending in endings],
                "statuses": [ending.status for ending in endings],
                "outcomes": [ending.outcome or ending.status for ending in endings],
                # psycopg quotes an array's texts character by character, in the loop.
                "outputs": _json(
                    [ending.output and without_nul(ending.output) for ending in endings]
                ),
                "error_codes": [error["error_code"] for error in errors],
                "error_messages": [error["error_message"] for error in errors],
                "tracebacks": [error["traceback"] for error in errors],
                "prompt_tokens": [ending.tokens.prompt for ending in endings],
                "completion_tokens": [ending.tokens.completion for ending in endings],
                "events": _json([_json(list(ending.events)) for ending in endings]),
                "progress": _json([_progress(ending.events) for ending in endings]),
                "notice_hours": settings.WEBHOOK_GIVE_UP_HOURS,
            },
        )
        ended = dict(cursor.fetchall())
        publish_position({account_id.hex for account_id in ended.values()})
    return set(ended)


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

    One that is to be cancelled ends so instead.

    `is_counted` says whether the attempt counts against `max_attempts`.
    """
    with invalidated_while([subject_of(job_id)]):
        account = _change(
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
        if account is not None:
            publish_position([account.hex])
            return True
    # Under its lease only one that is to be cancelled is left.
    return bool(end([Ending(job_id=job_id, lease=lease, status="cancelled")]))


def add_events(*, job_id: uuid.UUID, lease: uuid.UUID, events: Sequence[Event]) -> bool:
    """Append events of a running job, and note its progress; False if the lease is lost.

    Kept reads of the job stay: progress may be shown READ_CACHE_SECONDS late.
    """
    job = _change(
        ADD_EVENTS,
        {
            "job_id": job_id,
            "lease": lease,
            "count": len(events),
            "events": _json(list(events)),
            "progress": _progress(events),
        },
    )
    return job is not None


def without_nul(json_text: str) -> str:
    r"""Return JSON without the escape `\u0000`, which PostgreSQL cannot store."""
    if "\\u0000" not in json_text:
        return json_text
    return orjson.dumps(_clean(orjson.loads(json_text))).decode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def _progress(events: Sequence[Event]) -> str | None:
    last = next((event["data"] for event in reversed(events) if event["kind"] == "progress"), None)
    return None if last is None else _json(last)


def _json(value: Any) -> str:
    try:
        return without_nul(orjson.dumps(value).decode())
    except orjson.JSONEncodeError:
        # A lone surrogate, as models and parsers of documents make now and then.
        return orjson.dumps(_clean(value)).decode()


def _error(failure: Failure | None) -> dict[str, str]:
    return {
        "error_code": storable(failure.code)[:MAX_CODE_CHARS] if failure else "",
        "error_message": storable(failure.message) if failure else "",
        "traceback": storable(failure.traceback) if failure else "",
    }


def _change(statement: str, params: dict[str, Any]) -> uuid.UUID | None:
    """Return the id that the statement does, or None if it changed nothing."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        row = cursor.fetchone()
    return row[0] if row else None
