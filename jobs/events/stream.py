"""A job's events as server-sent events."""

from __future__ import annotations

import contextlib

from chat.running import sse
from chat.running.execution import Client
from config import exact_json
from config.api.errors import InvalidRequest, to_api_error
from jobs.events.feed import FEED, StoredEvent
from jobs.models import Job
from jobs.schemas import job_body
from jobs.services import reload

# Followers poll; one after a number that no event reaches would do so for ever.
MAX_EVENT_ID = 2**31 - 1
MAX_EVENT_DIGITS = 10


def read_event_id(text: str | None, *, param: str) -> int:
    """Return the number of the last event that a client has seen, -1 for none."""
    if text is None or text == "":
        return -1
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_EVENT_DIGITS
    if not is_number or int(text) > MAX_EVENT_ID:
        raise InvalidRequest(f"{param} must be the id of an event.", param=param)
    return int(text)


def job_events(job: Job, client: Client, *, after: int) -> sse.Events:
    """Yield a job's events after a number, and return `done`, which holds the job.

    The first event, number 0, is that the job was queued; it is not stored.
    """
    if after < 0:
        queued = {"status": "queued", "created_at": int(job.created_at.timestamp())}
        yield _event(0, "status", exact_json.dumps(queued))
    elif job.is_over and job.last_event <= after:
        return _done(job)
    batches = FEED.follow(job.pk, client, after=max(0, after))
    try:
        with contextlib.closing(batches):
            for batch in batches:
                if not batch:
                    yield b": heartbeat\n\n"
                    # It may have ended before `after`, or have been removed.
                    job = reload(job)
                    if job.is_over and job.last_event <= max(0, after):
                        return _done(job)
                for event in batch:
                    after = event.seq
                    if event.kind == "done":
                        job = reload(job)
                        if job.is_over and job.last_event <= event.seq:
                            return _done(job)
                        # It was retried since, and more events follow.
                        continue
                    yield _stored(event)
    # The status has gone out, so that every error must go inside the stream.
    except Exception as error:
        return sse.event(exact_json.dumps(to_api_error(error).body), name="error")
    raise AssertionError("a feed never ends")


def _done(job: Job) -> bytes:
    return _event(job.last_event, "done", exact_json.dumps(job_body(job)))


def _stored(event: StoredEvent) -> bytes:
    return _event(event.seq, event.kind, event.data.encode())


def _event(seq: int, name: str, data: bytes) -> bytes:
    return b"id: %d\n%b" % (seq, sse.event(data, name=name))
