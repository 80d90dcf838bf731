"""Wait for a response's job to finish, or stream its events."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

from chat.errors import ChainTimeout
from chat.running import sse
from chat.running.client_socket import ClientSocket
from config import exact_json
from config.api.errors import to_api_error
from jobs.events.feed import FEED, StoredEvent
from jobs.models import Job
from jobs.responses.bodies import STATUSES, queued_body, response_body
from jobs.responses.events import TERMINAL, ResponseEventBuilder
from jobs.responses.services import ResponseWait
from jobs.services import reload

# A job that runs out of time records that itself, within a moment.
GRACE_SECONDS = 5.0


def wait_until_over(waiting: ResponseWait, client: ClientSocket) -> Job:
    """Return the job once it is over; raises ClientGone, and ChainTimeout after its timeout."""
    job = waiting.job
    deadline = time.monotonic() + job.timeout_seconds + GRACE_SECONDS
    with contextlib.closing(_follow(job, client, deadline)) as batches:
        for batch in batches:
            # An empty batch is a silence: the job may have ended otherwise, or have been removed.
            if not batch or any(event.kind == "done" for event in batch):
                job = reload(job)
                if job.is_over:
                    break
    waiting.cancels_job = False
    return job


def response_events(
    waiting: ResponseWait, request: Mapping[str, Any], client: ClientSocket, *, after: int = -1
) -> sse.Events:
    """Yield the events of a response after a number, and return its terminal one.

    Comments mark silence and progress. An error becomes an `error` event with the number of
    the event before it, so that a client can go on from there.
    """
    job = waiting.job
    deadline = time.monotonic() + job.timeout_seconds + GRACE_SECONDS
    stored = _follow(job, client, deadline if waiting.cancels_job else None)
    stream = _EventStream(job, request)
    number = after
    last = b": there is nothing after this\n\n"
    try:
        with contextlib.closing(stored) as batches:
            for event in itertools.chain(stream.begin(), stream.add_all(batches)):
                if isinstance(event, bytes):
                    yield event
                elif event["sequence_number"] > after:
                    number = event["sequence_number"]
                    data = sse.event(exact_json.dumps(event), name=event["type"])
                    if stream.is_over and event["type"] in TERMINAL.values():
                        last = data
                    else:
                        yield data
        waiting.cancels_job = False
    # The status has gone out, so that every error must go inside the stream.
    except Exception as error:
        body = {**to_api_error(error).body["error"], "type": "error"}
        last = sse.event(
            exact_json.dumps({**body, "sequence_number": max(0, number)}), name="error"
        )
    return last


class _EventStream:
    """The events of a job as a response's, until the job is over; comments are bytes."""

    def __init__(self, job: Job, request: Mapping[str, Any]) -> None:
        self.is_over = False
        self._job = job
        self._request = request
        self._builder = ResponseEventBuilder(queued_body(job, request))

    def begin(self) -> Iterator[dict[str, Any]]:
        """Yield the events that precede every stored event."""
        return self._builder.begin()

    def add_all(self, batches: Iterable[list[StoredEvent]]) -> Iterator[dict[str, Any] | bytes]:
        """Yield the events for stored ones; raises JobNotFound once the job is removed."""
        for batch in batches:
            if not batch:
                self._reload()
                yield b": heartbeat\n\n"
            for event in batch:
                data = exact_json.loads(event.data)
                if event.kind == "progress":
                    yield b": progress %d/%d\n\n" % (data["completed"], data["total"])
                elif event.kind == "done":
                    yield from self._end(event.seq, data["status"])
                else:
                    yield from self._builder.add(event.kind, data)
            if self.is_over:
                return

    def _end(self, seq: int, job_status: str) -> Iterator[dict[str, Any]]:
        self._reload()
        self.is_over = self._job.is_over and self._job.last_event <= seq
        final = response_body(self._job, self._request)
        status = final["status"] if self.is_over else STATUSES[Job.Status(job_status)]
        *closing, terminal = self._builder.end(status, final)
        yield from closing
        # Else it was retried since; the terminal event's number is used up all the same.
        if self.is_over:
            yield terminal

    def _reload(self) -> None:
        self._job = reload(self._job)


def _follow(job: Job, client: ClientSocket, deadline: float | None) -> Generator[list[StoredEvent]]:
    """Yield a job's events as Feed.follow does; ChainTimeout is raised at the deadline."""
    batches = FEED.follow(job.pk, client, after=0, deadline=deadline)
    try:
        with contextlib.closing(batches):
            yield from batches
    except TimeoutError as error:
        raise ChainTimeout(job.timeout_seconds) from error
