"""What followers of jobs are given at once."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from jobs.events.feed import MAX_ASKED, MAX_BEHIND, MAX_EVENTS, Follower, Told, groups, new_events
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
    """Return the numbers of the new events, by their place."""
    return {place: [told.seq for told in events] for place, events in new_events(wanted).items()}


def test_each_follower_is_given_events_up_to_so_many_bytes(settings: Any) -> None:
    settings.JOB_EVENT_BATCH_BYTES = 1000
    large, small = make_job(), make_job()
    add_events(large, *["x" * 400] * 5)
    add_events(small, *"abc")
    assert numbers([(large.pk, 0), (small.pk, 1)]) == {0: [1, 2, 3], 1: [2, 3]}
    assert numbers([(large.pk, 3), (small.pk, 3)]) == {0: [4, 5]}


def test_one_event_is_given_however_large_it_is(settings: Any) -> None:
    settings.JOB_EVENT_BATCH_BYTES = 1
    job = make_job()
    add_events(job, "x" * 5000, "y")
    assert numbers([(job.pk, 0)]) == {0: [1]}
    [told] = new_events([(job.pk, 1)])[0]
    assert (told.kind, told.data) == ("tokens", '{"text": "y"}')


def test_many_small_events_come_in_parts() -> None:
    job = make_job()
    add_events(job, *["x"] * (MAX_EVENTS + 2))
    assert len(numbers([(job.pk, 0)])[0]) == MAX_EVENTS
    assert numbers([(job.pk, MAX_EVENTS), (uuid.uuid4(), 0)]) == {
        0: [MAX_EVENTS + 1, MAX_EVENTS + 2]
    }


def test_those_who_wait_for_news_are_asked_about_before_those_who_read_old_events() -> None:
    waiting = [Follower(uuid.uuid4(), 0) for _ in range(40)]
    for follower in waiting:
        follower.give([])
    behind = [Follower(uuid.uuid4(), 0) for _ in range(MAX_BEHIND + 10)]
    full = Follower(uuid.uuid4(), 0)
    full.give([Told(1, "tokens", "{}", 0)])
    for moment in range(1, 3):
        asked = list(groups([*behind, full, *waiting]))
        assert max(map(len, asked)) == MAX_ASKED
        flat = [follower for group in asked for follower in group]
        assert flat[: len(waiting)] == waiting
        assert len(flat) == len(waiting) + MAX_BEHIND
        if moment == 2:
            assert set(behind[MAX_BEHIND:]) <= set(flat)
        for follower in flat:
            follower.asked_at = float(moment)


def test_a_follower_is_behind_while_it_may_have_more_to_read(settings: Any) -> None:
    settings.JOB_EVENT_BATCH_BYTES = 100
    follower = Follower(uuid.uuid4(), 0)
    assert follower.is_behind
    follower.give([Told(1, "tokens", "x" * 10, 0)])
    assert not follower.is_behind
    assert (follower.after, follower.news.is_set()) == (1, True)
    follower.give([Told(2, "tokens", "x" * 100, 0)])
    assert follower.is_behind
    follower.give([])
    assert not follower.is_behind
    assert follower.after == 2
