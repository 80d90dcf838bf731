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
from collections.abc import Generator
from dataclasses import dataclass

import gevent
from django.conf import settings
from django.db import DatabaseError, connection
from gevent.event import Event as Signal
from psycopg_pool import PoolTimeout

from chat.errors import ClientGone, ServerDraining
from chat.execution import Client
from config.draining import DRAINING
from scaling.database import release_connections

logger = logging.getLogger(__name__)

# What one follower is given at once; the rest follows at the next look.
MAX_EVENTS = 500

# One event at a time, so that none is printed that is not given: how large it is shows only then.
NEW_EVENTS = """
WITH RECURSIVE told (place, job_id, seq, kind, data, created_at, number, bytes) AS (
    SELECT w.place, w.job_id, w.seq, NULL::text, NULL::text, NULL::bigint, 0, 0
    FROM unnest(%(jobs)s::uuid[], %(seqs)s::int[]) WITH ORDINALITY AS w (job_id, seq, place)
  UNION ALL
    SELECT t.place, t.job_id, e.seq, e.kind, e.data, e.created_at, t.number + 1,
           t.bytes + octet_length(e.data)
    FROM told t, LATERAL (
        SELECT seq, kind::text, data::text, extract(epoch FROM created_at)::bigint AS created_at
        FROM jobs_event WHERE job_id = t.job_id AND seq > t.seq ORDER BY seq LIMIT 1
    ) AS e
    WHERE t.number < %(most)s AND t.bytes < %(most_bytes)s
)
SELECT place, seq, kind, data, created_at FROM told WHERE number > 0 ORDER BY place, seq
"""


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


class _Follower:
    def __init__(self, job_id: uuid.UUID, after: int) -> None:
        self.job_id = job_id
        self.after = after
        self.events: list[Told] = []
        self.news = Signal()


class Feed:
    """The followers of one process, and the greenlet that looks for news while there are any."""

    def __init__(self) -> None:
        self._lock: threading.Lock
        self._followers: set[_Follower]
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
        follower = _Follower(job_id, after)
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

    def _poll(self, followers: set[_Follower]) -> None:
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

    def _look(self, followers: list[_Follower]) -> None:
        # One that has not taken its last batch yet is asked about later.
        hungry = [follower for follower in followers if not follower.events]
        if not hungry:
            return
        found = new_events([(follower.job_id, follower.after) for follower in hungry])
        for place, events in found.items():
            follower = hungry[place]
            follower.events = events
            follower.after = events[-1].seq
        for follower in hungry:
            if follower.events:
                follower.news.set()


FEED = Feed()
