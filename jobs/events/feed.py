"""Follow jobs' events: one query a poll for all the followers of a process.

Events come from PostgreSQL alone, so any node can tell a story from any point, during and after
the run, and nothing has to be up but the database.
"""

from __future__ import annotations

import logging
import os
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
from node.draining import DRAINING
from scaling.connections import release_connections

logger = logging.getLogger(__name__)

# What one follower is given at once; the rest follows at the next look.
MAX_EVENTS = 500
# Followers that a query is for: what it returns is held at once, and read without a pause.
MAX_ASKED = 64
# Followers with more to read than they are given at once, that a look is for.
MAX_BEHIND = 128

NEXT_EVENT = """
    SELECT seq, kind::text, data::text, extract(epoch FROM created_at)::bigint AS created_at
    FROM jobs_event WHERE job_id = f.job_id AND seq > f.seq ORDER BY seq LIMIT 1
"""
# One event at a time, so that none is printed that is not given: how large it is shows only then.
NEW_EVENTS = f"""
WITH RECURSIVE told (place, job_id, seq, kind, data, created_at, number, bytes) AS (
    SELECT f.place, f.job_id, e.*, 1, octet_length(e.data)
    FROM unnest(%(jobs)s::uuid[], %(seqs)s::int[]) WITH ORDINALITY AS f (job_id, seq, place),
         LATERAL ({NEXT_EVENT}) AS e
  UNION ALL
    SELECT f.place, f.job_id, e.*, f.number + 1, f.bytes + octet_length(e.data)
    FROM told AS f, LATERAL ({NEXT_EVENT}) AS e
    WHERE f.number < %(most)s AND f.bytes < %(most_bytes)s
)
SELECT place, seq, kind, data, created_at FROM told ORDER BY place, seq
"""  # noqa: S608  (of constants)


@dataclass(frozen=True, slots=True)
class Told:
    """One event as it was written; `data` is JSON text."""

    seq: int
    kind: str
    data: str
    created_at: int


def new_events(wanted: list[tuple[uuid.UUID, int]]) -> dict[int, list[Told]]:
    """Return the next events of jobs after numbers, by their place in `wanted`; one query.

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
        found: dict[int, list[Told]] = {}
        for place, *event in cursor.fetchall():
            found.setdefault(place - 1, []).append(Told(*event))
    return found


class Follower:
    """Who is given a job's events; `is_behind` until a look has found less than it may give."""

    def __init__(self, job_id: uuid.UUID, after: int) -> None:
        self.job_id = job_id
        self.after = after
        self.events: list[Told] = []
        self.news = Signal()
        self.is_behind = True
        self.asked_at = 0.0

    def give(self, events: list[Told]) -> None:
        """Hand over what a look has found."""
        size = sum(len(told.data) for told in events)
        # A character has four bytes at most.
        self.is_behind = len(events) == MAX_EVENTS or size * 4 >= settings.JOB_EVENT_BATCH_BYTES
        if events:
            self.events = events
            self.after = events[-1].seq
            self.news.set()


def groups(followers: Iterable[Follower]) -> Iterator[list[Follower]]:
    """Yield who is asked about at this look, as many as one query may be for.

    All who are not behind come first, and of the others those who have waited longest: a thousand
    who read old events do not hold up those who wait for new ones.
    """
    # One that has not taken its last batch yet is asked about later.
    hungry = [follower for follower in followers if not follower.events]
    behind = sorted((f for f in hungry if f.is_behind), key=lambda f: f.asked_at)
    chosen = [f for f in hungry if not f.is_behind] + behind[:MAX_BEHIND]
    for start in range(0, len(chosen), MAX_ASKED):
        yield chosen[start : start + MAX_ASKED]


class Feed:
    """The followers of one process, and the greenlet that looks for news while there are any."""

    def __init__(self) -> None:
        self._lock: threading.Lock
        self._followers: set[Follower]
        self._poller: gevent.Greenlet[..., None] | None
        self._wake: Signal
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def follow(
        self, job_id: uuid.UUID, client: Client, *, after: int, deadline: float | None = None
    ) -> Generator[list[Told]]:
        """Yield a job's events after a number, in batches; an empty one after each silence.

        A silence is STREAM_HEARTBEAT_SECONDS. Holds no connection while it waits: those of this
        greenlet are given back. Ends with an error alone: ClientGone, ServerDraining when this
        process must end, TimeoutError at the `deadline` of time.monotonic().
        """
        follower = Follower(job_id, after)
        with self._lock:
            self._followers.add(follower)
            if self._poller is None:
                self._poller = gevent.spawn(self._poll, self._followers)
        self._wake.set()
        try:
            with client.watch(follower.news.set), DRAINING.watch(follower.news.set):
                while True:
                    left = settings.STREAM_HEARTBEAT_SECONDS
                    if deadline is not None:
                        left = max(0.0, min(left, deadline - time.monotonic()))
                    release_connections()
                    follower.news.wait(left)
                    follower.news.clear()
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

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._followers = set()
        self._poller = None
        self._wake = Signal()

    def _poll(self, followers: set[Follower]) -> None:
        while followers is self._followers:
            if not followers:
                self._wake.clear()
                self._wake.wait()
            try:
                self._look(list(followers))
            except (DatabaseError, PoolTimeout) as error:
                logger.warning("events not read: %s", error)
            # The outermost tick of the loop: it must go on whatever happens.
            except Exception:
                logger.exception("reading events failed")
            finally:
                release_connections()
            gevent.sleep(settings.JOB_EVENT_POLL_SECONDS)

    def _look(self, followers: list[Follower]) -> None:
        for group in groups(followers):
            found = new_events([(follower.job_id, follower.after) for follower in group])
            for place, follower in enumerate(group):
                follower.asked_at = time.monotonic()
                follower.give(found.get(place, []))


FEED = Feed()
