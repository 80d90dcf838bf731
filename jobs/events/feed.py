"""Follow jobs' events: one query a poll for all the followers of a process.

Events come from PostgreSQL alone, so any node can stream them from any point, during and after the
run, and no service is needed but the database.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import gevent
from django.conf import settings
from django.db import DatabaseError, connection
from gevent.event import Event as Signal
from psycopg_pool import PoolTimeout

from chat.errors import ClientGone, ServerDraining
from chat.running.execution import Client
from config.background import ForkSafe
from node.draining import DRAINING
from scaling.connections import release_connections

logger = logging.getLogger(__name__)

# Events that one follower gets at once; the rest follows at the next poll.
MAX_EVENTS = 500
# Followers of one query: its result is held in memory, and read without a pause.
MAX_FOLLOWERS_PER_QUERY = 64
# Followers with more to read than one batch, of one poll.
MAX_BEHIND = 128

NEXT_EVENT = """
    SELECT seq, kind::text, data::text, extract(epoch FROM created_at)::bigint AS created_at
    FROM jobs_event WHERE job_id = f.job_id AND seq > f.seq ORDER BY seq LIMIT 1
"""
# One event at a time, so that none is printed that is not returned: its size shows only then.
NEW_EVENTS = f"""
WITH RECURSIVE batch (ordinal, job_id, seq, kind, data, created_at, number, bytes) AS (
    SELECT f.ordinal, f.job_id, e.*, 1, octet_length(e.data)
    FROM unnest(%(jobs)s::uuid[], %(seqs)s::int[]) WITH ORDINALITY AS f (job_id, seq, ordinal),
         LATERAL ({NEXT_EVENT}) AS e
  UNION ALL
    SELECT f.ordinal, f.job_id, e.*, f.number + 1, f.bytes + octet_length(e.data)
    FROM batch AS f, LATERAL ({NEXT_EVENT}) AS e
    WHERE f.number < %(most)s AND f.bytes < %(most_bytes)s
)
SELECT ordinal, seq, kind, data, created_at FROM batch ORDER BY ordinal, seq
"""  # noqa: S608  (of constants)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it was written; `data` is JSON text."""

    seq: int
    kind: str
    data: str
    created_at: int


def new_events(wanted: list[tuple[uuid.UUID, int]]) -> dict[int, list[StoredEvent]]:
    """Return the next events of jobs after numbers, by the index in `wanted`; one query.

    Of each at most MAX_EVENTS, and none after JOB_EVENT_BATCH_BYTES are reached.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            NEW_EVENTS,
            {
                "jobs": [job_id for job_id, _ in wanted],
                "seqs": [seq for _, seq in wanted],
                "most": MAX_EVENTS,
                "most_bytes": settings.JOB_EVENT_BATCH_BYTES,
            },
        )
        found: dict[int, list[StoredEvent]] = {}
        for ordinal, *event in cursor.fetchall():
            found.setdefault(ordinal - 1, []).append(StoredEvent(*event))
    return found


class Follower:
    """A reader of a job's events; `is_behind` until a poll has found less than a full batch."""

    def __init__(self, job_id: uuid.UUID, after: int) -> None:
        self.job_id = job_id
        self.after = after
        self.events: list[StoredEvent] = []
        self.arrived = Signal()
        self.is_behind = True
        self.polled_at = 0.0

    def deliver(self, events: list[StoredEvent]) -> None:
        """Hand over the events that a poll has found."""
        size = sum(len(event.data) for event in events)
        # A character has four bytes at most.
        self.is_behind = len(events) == MAX_EVENTS or size * 4 >= settings.JOB_EVENT_BATCH_BYTES
        if events:
            self.events = events
            self.after = events[-1].seq
            self.arrived.set()


def groups(followers: Iterable[Follower]) -> Iterator[list[Follower]]:
    """Yield the followers of this poll, in groups of one query each.

    All that are not behind come first, and of the others those that have waited longest: a thousand
    followers of old events do not delay those that wait for new ones.
    """
    # One that has not taken its last batch yet is polled later.
    ready_followers = [follower for follower in followers if not follower.events]
    behind = sorted((f for f in ready_followers if f.is_behind), key=lambda f: f.polled_at)
    chosen = [f for f in ready_followers if not f.is_behind] + behind[:MAX_BEHIND]
    for start in range(0, len(chosen), MAX_FOLLOWERS_PER_QUERY):
        yield chosen[start : start + MAX_FOLLOWERS_PER_QUERY]


class Feed(ForkSafe):
    """The followers of one process, and the greenlet that polls for events while there are any."""

    def reset(self) -> None:
        """Drop the followers."""
        self._lock = threading.Lock()
        self._followers: set[Follower] = set()
        self._poller: gevent.Greenlet[..., None] | None = None
        self._wake = Signal()

    def follow(
        self, job_id: uuid.UUID, client: Client, *, after: int, deadline: float | None = None
    ) -> Generator[list[StoredEvent]]:
        """Yield a job's events after a number, in batches; an empty one after each silence.

        A silence is STREAM_HEARTBEAT_SECONDS. Holds no connection while it waits: those of this
        greenlet are released. Ends with an error alone: ClientGone, ServerDraining when this
        process must end, TimeoutError at the `deadline` of time.monotonic().
        """
        follower = Follower(job_id, after)
        with self._lock:
            self._followers.add(follower)
            if self._poller is None:
                self._poller = gevent.spawn(self._poll, self._followers)
        self._wake.set()
        try:
            with client.watch(follower.arrived.set), DRAINING.watch(follower.arrived.set):
                while True:
                    left = settings.STREAM_HEARTBEAT_SECONDS
                    if deadline is not None:
                        left = max(0.0, min(left, deadline - time.monotonic()))
                    release_connections()
                    follower.arrived.wait(left)
                    follower.arrived.clear()
                    if client.is_gone:
                        raise ClientGone
                    if DRAINING.is_over:
                        raise ServerDraining
                    is_late = deadline is not None and time.monotonic() >= deadline
                    if is_late and not follower.events:
                        raise TimeoutError
                    events, follower.events = follower.events, []
                    yield events
        finally:
            self._followers.discard(follower)

    def _poll(self, followers: set[Follower]) -> None:
        while followers is self._followers:
            if not followers:
                self._wake.clear()
                self._wake.wait()
            try:
                self._poll_once(list(followers))
            except (DatabaseError, PoolTimeout) as error:
                logger.warning("events not read: %s", error)
            # The outermost tick of the loop: it must go on after any error.
            except Exception:
                logger.exception("reading events failed")
            finally:
                release_connections()
            gevent.sleep(settings.JOB_EVENT_POLL_SECONDS)

    def _poll_once(self, followers: list[Follower]) -> None:
        for group in groups(followers):
            found = new_events([(follower.job_id, follower.after) for follower in group])
            for ordinal, follower in enumerate(group):
                follower.polled_at = time.monotonic()
                follower.deliver(found.get(ordinal, []))


FEED = Feed()
