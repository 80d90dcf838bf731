"""The batches of events that followers of jobs get."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from jobs.events.feed import (
    MAX_BEHIND,
    MAX_EVENTS,
    MAX_FOLLOWERS_PER_QUERY,
    Follower,
    StoredEvent,
    groups,
    new_events,
)
from jobs.models import Event, Job
from tests.support.rows import make_job

pytestmark = pytest.mark.django_db


def add_events(job: Job, *texts: str) -> None:
    """Store texts of a job."""
    Event.objects.bulk_create(
        Event(job=job, seq=seq, kind="tokens", data={"text": text})
        for seq, text in enumerate(texts, 1)
    )


def numbers(wanted: list[tuple[uuid.UUID, int]]) -> dict[int, list[int]]:
    """Return the numbers of the new events, by the index of the job."""
    return {index: [event.seq for event in events] for index, events in new_events(wanted).items()}


def test_a_batch_of_a_follower_is_bounded_in_bytes(settings: Any) -> None:
    settings.JOB_EVENT_BATCH_BYTES = 1000
    large, small = make_job(), make_job()
    add_events(large, *["x" * 400] * 5)
    add_events(small, *"abc")
    assert numbers([(large.pk, 0), (small.pk, 1)]) == {0: [1, 2, 3], 1: [2, 3]}
    assert numbers([(large.pk, 3), (small.pk, 3)]) == {0: [4, 5]}


def test_a_batch_has_one_event_however_large_it_is(settings: Any) -> None:
    settings.JOB_EVENT_BATCH_BYTES = 1
    job = make_job()
    add_events(job, "x" * 5000, "y")
    assert numbers([(job.pk, 0)]) == {0: [1]}
    [event] = new_events([(job.pk, 1)])[0]
    assert (event.kind, event.data) == ("tokens", '{"text": "y"}')


def test_many_small_events_come_in_parts() -> None:
    job = make_job()
    add_events(job, *["x"] * (MAX_EVENTS + 2))
    assert len(numbers([(job.pk, 0)])[0]) == MAX_EVENTS
    assert numbers([(job.pk, MAX_EVENTS), (uuid.uuid4(), 0)]) == {
        0: [MAX_EVENTS + 1, MAX_EVENTS + 2]
    }


def test_followers_that_wait_for_events_are_polled_before_those_of_old_events() -> None:
    waiting = [Follower(uuid.uuid4(), 0) for _ in range(40)]
    for follower in waiting:
        follower.deliver([])
    behind = [Follower(uuid.uuid4(), 0) for _ in range(MAX_BEHIND + 10)]
    full = Follower(uuid.uuid4(), 0)
    full.deliver([StoredEvent(1, "tokens", "{}", 0)])
    for moment in range(1, 3):
        polled = list(groups([*behind, full, *waiting]))
        assert max(map(len, polled)) == MAX_FOLLOWERS_PER_QUERY
        flat = [follower for group in polled for follower in group]
        assert flat[: len(waiting)] == waiting
        assert len(flat) == len(waiting) + MAX_BEHIND
        if moment == 2:
            assert set(behind[MAX_BEHIND:]) <= set(flat)
        for follower in flat:
            follower.polled_at = float(moment)


def test_a_follower_is_behind_while_it_may_have_more_to_read(settings: Any) -> None:
    settings.JOB_EVENT_BATCH_BYTES = 100
    follower = Follower(uuid.uuid4(), 0)
    assert follower.is_behind
    follower.deliver([StoredEvent(1, "tokens", "x" * 10, 0)])
    assert not follower.is_behind
    assert (follower.after, follower.arrived.is_set()) == (1, True)
    follower.deliver([StoredEvent(2, "tokens", "x" * 100, 0)])
    assert follower.is_behind
    follower.deliver([])
    assert not follower.is_behind
    assert follower.after == 2
