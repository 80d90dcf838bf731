"""Transitions out of `running` and `queued`: one statement each, without effect if it is late.

Every statement names the state that it expects, and the lease if there is one, and returns whether
the job was still in it. Results, events, the attempt's end and the deliveries are written together
or not at all. The statements are in jobs/queue/sql/.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from django.conf import settings
from django.db import connection

from config import exact_json
from config.statements import read_statement
from config.text import storable
from jobs.queue.failures import Failure
from scaling.replicas.publishing import publish_position
from scaling.response_cache.invalidation import invalidated_while

MAX_CODE_CHARS = 64

_SQL = Path(__file__).parent / "sql"
FINISH = read_statement(_SQL / "finish.sql")
RELEASE = read_statement(_SQL / "release.sql")
ADD_EVENTS = read_statement(_SQL / "add_events.sql")


class Event(TypedDict):
    """`progress` {completed, total, message} or `tokens` {text}."""

    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens that an attempt used; None if no provider reported any."""

    prompt: int | None = None
    completion: int | None = None


@dataclass(frozen=True, kw_only=True)
class Finish:
    """The end of a job: of a running one under its `lease`, or of a queued one (`lease` None)."""

    job_id: uuid.UUID
    lease: uuid.UUID | None
    status: str
    # The attempt's, when it is more than the status.
    outcome: str = ""
    # JSON text.
    output: str | None = None
    failure: Failure | None = None
    tokens: Tokens = Tokens()
    # Events that precede `done`.
    events: Sequence[Event] = ()


def subject_of(job_id: uuid.UUID) -> str:
    """Return the subject by which cached reads of a job are invalidated."""
    return f"job:{job_id.hex}"


def finish(finishes: Sequence[Finish]) -> set[uuid.UUID]:
    """Finish jobs, all or none; return those that were still in the state that was expected.

    No job may be among them twice.
    """
    errors = [_error(each.failure) for each in finishes]
    subjects = [subject_of(each.job_id) for each in finishes]
    with invalidated_while(subjects), connection.cursor() as cursor:
        cursor.execute(
            FINISH,
            {
                "job_ids": [each.job_id for each in finishes],
                "leases": [each.lease for each in finishes],
                "statuses": [each.status for each in finishes],
                "outcomes": [each.outcome or each.status for each in finishes],
                # Long texts are JSON: psycopg quotes those of an array character by character, in
                # the loop.
                "outputs": _outputs(finishes),
                "error_codes": [error["error_code"] for error in errors],
                "error_messages": _json([error["error_message"] for error in errors]),
                "tracebacks": _json([error["traceback"] for error in errors]),
                "prompt_tokens": [each.tokens.prompt for each in finishes],
                "completion_tokens": [each.tokens.completion for each in finishes],
                "events": _json([list(each.events) for each in finishes]),
                "progress": _json([_progress(each.events) for each in finishes]),
                "give_up_hours": settings.WEBHOOK_GIVE_UP_HOURS,
            },
        )
        finished = dict(cursor.fetchall())
        publish_position({account_id.hex for account_id in finished.values()})
    return set(finished)


def release(
    *,
    job_id: uuid.UUID,
    lease: uuid.UUID,
    outcome: str,
    is_counted: bool,
    delay_seconds: float = 0.0,
    failure: Failure | None = None,
) -> bool:
    """Put a running job back among the waiting ones; False if the lease is lost.

    One whose cancellation was requested is cancelled instead. `is_counted` is whether the attempt
    counts against `max_attempts`.
    """
    with invalidated_while([subject_of(job_id)]):
        account = _change(
            RELEASE,
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
    # A job that is still under this lease is one whose cancellation was requested.
    return bool(finish([Finish(job_id=job_id, lease=lease, status="cancelled")]))


def add_events(*, job_id: uuid.UUID, lease: uuid.UUID, events: Sequence[Event]) -> bool:
    """Append events of a running job, and store its progress; False if the lease is lost.

    Cached reads of the job are not invalidated: progress may be shown READ_CACHE_SECONDS late.
    """
    job = _change(
        ADD_EVENTS,
        {
            "job_id": job_id,
            "lease": lease,
            "count": len(events),
            "events": _json(list(events)),
            "progress": _json(_progress(events)),
        },
    )
    return job is not None


def without_nul(json_text: str) -> str:
    r"""Return JSON without the escape `\u0000`, which PostgreSQL cannot store."""
    if "\\u0000" not in json_text:
        return json_text
    return exact_json.dumps(_clean(exact_json.loads(json_text))).decode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def _progress(events: Sequence[Event]) -> dict[str, Any] | None:
    return next((event["data"] for event in reversed(events) if event["kind"] == "progress"), None)


def _outputs(finishes: Sequence[Finish]) -> str:
    """Return all outputs as one JSON array; those are JSON already, and are not escaped again."""
    items = (f"[{without_nul(each.output)}]" if each.output else "null" for each in finishes)
    return f"[{','.join(items)}]"


def _json(value: Any) -> str:
    return without_nul(exact_json.dumps(value).decode())


def _error(failure: Failure | None) -> dict[str, str]:
    return {
        "error_code": storable(failure.code)[:MAX_CODE_CHARS] if failure else "",
        "error_message": storable(failure.message) if failure else "",
        "traceback": storable(failure.traceback) if failure else "",
    }


def _change(statement: str, params: dict[str, Any]) -> uuid.UUID | None:
    """Return the id that the statement returns, or None if it changed nothing."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        row = cursor.fetchone()
    return row[0] if row else None
