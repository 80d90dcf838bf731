"""Who runs next: priorities, turns, limits, and what a worker may not have."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access.models import Account
from chat.models import Chain
from jobs.models import Attempt, Job, Worker
from jobs.queue import transitions
from jobs.queue.claims import ClaimedJob, claim
from jobs.queue.fair_queue import account_priority, next_rank
from jobs.queue.reaper import Reaper, make_due
from jobs.queue.transitions import Finish
from jobs.worker.runner import RunningAttempt
from jobs.worker.slots import Slots
from tests.support.rows import make_job, make_worker, minutes_ago

pytestmark = pytest.mark.django_db


@pytest.fixture
def worker() -> Worker:
    return make_worker()


def account(name: str, **fields: Any) -> Account:
    return Account.objects.create(name=name, **fields)


def queue(count: int, *, owner: str | Account = "acme", **fields: Any) -> list[Job]:
    """Queue jobs as a submission does, each with the rank that it gets."""
    if isinstance(owner, str):
        owner, _ = Account.objects.get_or_create(name=owner)
    return [
        make_job(
            account=owner,
            rank=next_rank(account_id=owner.pk),
            account_priority=account_priority(account_id=owner.pk),
            **fields,
        )
        for _ in range(count)
    ]


def take(worker: Worker, count: int, **options: Any) -> list[ClaimedJob]:
    return claim(worker_id=worker.pk, worker_name=worker.name, count=count, **options)


def finish(claimed: ClaimedJob) -> None:
    succeeded = Finish(job_id=claimed.job_id, lease=claimed.lease, status="succeeded", output="1")
    assert transitions.finish([succeeded])


def take_names(worker: Worker, count: int) -> list[str]:
    """Claim so many jobs one by one, and return the names of their accounts."""
    names = dict(Account.objects.values_list("pk", "name"))
    return [names[claimed.account_id] for _ in range(count) for claimed in take(worker, 1)]


# --- The order ----------------------------------------------------------------------------------
def test_an_accounts_higher_priority_goes_first_and_equals_in_their_order(worker: Worker) -> None:
    low, normal, high = queue(2, priority=1), queue(2, priority=4), queue(2, priority=9)
    taken = [take(worker, 1)[0].job_id for _ in range(6)]
    assert taken == [job.pk for job in high + normal + low]
    assert take(worker, 1) == []


def test_one_accounts_many_jobs_do_not_make_anothers_wait(worker: Worker) -> None:
    many = account("many")
    queue(200, owner=many)
    for claimed in take(worker, 50):
        finish(claimed)
    few = queue(3, owner="few")
    # From here on they take turns, though 150 were there before.
    taken = [claimed.account_id for claimed in take(worker, 7)]
    assert Counter(taken) == {many.pk: 4, few[0].account_id: 3}
    assert few[0].account_id in taken[:2]


def test_three_accounts_take_turns(worker: Worker) -> None:
    for name in ("a", "b", "c"):
        queue(10, owner=name)
    names = dict(Account.objects.values_list("pk", "name"))
    taken = [names[claimed.account_id] for claimed in take(worker, 9)]
    assert [set(taken[at : at + 3]) for at in (0, 3, 6)] == [{"a", "b", "c"}] * 3


def test_a_clients_priority_goes_before_no_other_accounts_jobs(worker: Worker) -> None:
    queue(10, owner="urgent", priority=9)
    queue(10, owner="usual", priority=5)
    taken = take_names(worker, 20)
    assert [set(taken[at : at + 2]) for at in range(0, 20, 2)] == [{"urgent", "usual"}] * 10


def test_an_account_gains_no_turn_by_new_jobs_of_a_higher_priority(worker: Worker) -> None:
    # Its old ones hold the first turns, and each new one is used for the next of them.
    queue(30, owner="urgent", priority=0)
    queue(30, owner="usual")
    taken = []
    for _ in range(20):
        queue(1, owner="urgent", priority=9)
        taken += take_names(worker, 2)
    assert Counter(taken[:20]) == Counter(taken[20:]) == {"urgent": 10, "usual": 10}
    # The ranks that are left are still one a turn.
    ranks = Job.objects.filter(account__name="urgent", status="queued").values_list("rank")
    assert len(set(ranks)) == len(ranks) == 30
    served = Job.objects.filter(status="running", account__name="urgent")
    assert set(served.values_list("priority", flat=True)) == {9}


@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_however_many_are_claimed_at_once_the_order_is_the_same(
    worker: Worker, at_once: int
) -> None:
    mine = {priority: queue(4, owner="mine", priority=priority) for priority in (2, 9, 5)}
    queue(12, owner="other")
    taken = [claimed for _ in range(24) for claimed in take(worker, at_once)]
    own = [claimed.job_id for claimed in taken if claimed.account_id == mine[9][0].account_id]
    assert own == [job.pk for priority in (9, 5, 2) for job in mine[priority]]
    turns = [claimed.account_id for claimed in taken]
    assert [len(set(turns[at : at + 2])) for at in range(0, 24, 2)] == [2] * 12


def test_what_staff_give_an_account_stands_above(worker: Worker) -> None:
    queue(3, owner="usual", priority=9)
    queue(3, owner=account("first", job_priority=8), priority=0)
    queue(3, owner=account("last", job_priority=1), priority=9)
    assert take_names(worker, 9) == ["first"] * 3 + ["usual"] * 3 + ["last"] * 3


def test_a_released_job_has_the_turn_that_it_was_claimed_with(worker: Worker) -> None:
    queue(5, owner="mine", priority=1)
    queue(5, owner="other")
    urgent = queue(1, owner="mine", priority=9)[0]
    (claimed,) = take(worker, 1)
    assert claimed.job_id == urgent.pk
    assert transitions.release(
        job_id=claimed.job_id, lease=claimed.lease, outcome="released", is_counted=False
    )
    # It has its turn still, which is the first; the other account's is the same.
    assert urgent.pk in {claimed.job_id for claimed in take(worker, 2)}


def test_a_job_is_not_run_before_its_time(worker: Worker) -> None:
    later = make_job(is_due=False, run_at=timezone.now() + timedelta(hours=1))
    assert make_due() == 0
    assert take(worker, 10) == []
    Job.objects.filter(pk=later.pk).update(run_at=minutes_ago(1))
    assert make_due() == 1
    assert [claimed.job_id for claimed in take(worker, 10)] == [later.pk]


# --- Limits -------------------------------------------------------------------------------------
def test_an_account_runs_no_more_than_its_limit(worker: Worker) -> None:
    bounded = account("bounded", max_running_jobs=3)
    queue(10, owner=bounded)
    others = queue(4, owner="other")
    first = take(worker, 10)
    assert Counter(claimed.account_id for claimed in first) == {
        bounded.pk: 3,
        others[0].account_id: 4,
    }
    assert take(worker, 10) == []
    finish(next(claimed for claimed in first if claimed.account_id == bounded.pk))
    assert len(take(worker, 10)) == 1


def test_an_account_without_a_limit_of_its_own_has_the_settings(
    worker: Worker, settings: Any
) -> None:
    settings.JOB_ACCOUNT_CONCURRENCY = 2
    queue(5, owner="usual")
    queue(5, owner=account("special", max_running_jobs=4))
    assert len(take(worker, 20)) == 6
    assert take(worker, 20) == []


def test_a_chain_runs_no_more_than_its_limit(worker: Worker) -> None:
    Chain.objects.create(slug="narrow", runnable="assistant", max_running_jobs=2)
    queue(5, owner="a", chain="narrow")
    queue(5, owner="b", chain="narrow")
    wide = queue(3, owner="b", chain="wide")
    first = take(worker, 20)
    assert Counter(claimed.chain_slug for claimed in first) == {"narrow": 2, "wide": len(wide)}
    finish(next(claimed for claimed in first if claimed.chain_slug == "narrow"))
    assert [claimed.chain_slug for claimed in take(worker, 20)] == ["narrow"]


@pytest.mark.django_db(transaction=True)
def test_limits_hold_and_no_job_is_taken_twice_however_many_claim() -> None:
    workers = [make_worker(name=f"worker {number}") for number in range(8)]
    bounded = account("bounded", max_running_jobs=7)
    queue(30, owner=bounded)
    queue(30, owner="free")

    def take_many(worker: Worker) -> list[ClaimedJob]:
        try:
            return [claimed for _ in range(10) for claimed in take(worker, 2)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(workers)) as threads:
        taken = [claimed for found in threads.map(take_many, workers) for claimed in found]
    assert len({claimed.job_id for claimed in taken}) == len(taken) == 37
    assert sum(claimed.account_id == bounded.pk for claimed in taken) == 7
    assert Attempt.objects.filter(outcome="running").count() == 37


def test_jobs_that_took_workers_down_run_one_at_a_time(worker: Worker) -> None:
    suspects = queue(3)
    Job.objects.update(losses=2)
    innocent = queue(2, owner="other")
    taken = take(worker, 10)
    assert {claimed.job_id for claimed in taken} == {suspects[0].pk, *(job.pk for job in innocent)}
    assert take(worker, 10, allow_suspect=False) == []


# --- The worker ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "fields",
    [{"state": "draining"}, {"state": "gone"}, {"lease_until": minutes_ago(1)}],
    ids=["draining", "gone", "lease over"],
)
def test_a_worker_that_leaves_gets_no_jobs(fields: dict[str, Any]) -> None:
    queue(1)
    assert take(make_worker(**fields), 1) == []
    assert Job.objects.get().status == "queued"


def test_the_last_slots_are_for_accounts_that_run_nothing_here(
    worker: Worker, settings: Any
) -> None:
    settings.JOB_CONCURRENCY = 20
    slots = Slots()
    slots.worker_id, slots.worker_name = worker.pk, worker.name
    greedy = account("greedy")
    queue(30, owner=greedy)

    def fill() -> list[ClaimedJob]:
        found = slots.claim_jobs(20 - len(slots.running))
        slots.running.update({claimed.lease: RunningAttempt(claimed) for claimed in found})
        return found

    assert len(fill()) == 18
    assert fill() == []
    late = queue(1, owner="late")
    assert [claimed.job_id for claimed in fill()] == [late[0].pk]


def test_a_worker_that_holds_large_inputs_claims_for_accounts_that_run_nothing_here(
    worker: Worker, settings: Any
) -> None:
    settings.JOB_WORKER_INPUT_BYTES = 2048
    slots = Slots()
    slots.worker_id, slots.worker_name = worker.pk, worker.name
    greedy = account("greedy")
    queue(3, owner=greedy, input="x" * 1500)

    def fill() -> list[ClaimedJob]:
        found = slots.claim_jobs(1)
        slots.running.update({claimed.lease: RunningAttempt(claimed) for claimed in found})
        return found

    assert [fill()[0].input_bytes for _ in range(2)] == [1502, 1502]
    assert fill() == []
    late = queue(1, owner="late")
    assert [claimed.job_id for claimed in fill()] == [late[0].pk]
    slots.running.clear()
    assert len(fill()) == 1


# --- The reaper ---------------------------------------------------------------------------------
def test_a_round_of_the_reaper_removes_what_is_too_old(settings: Any) -> None:
    settings.JOB_RETENTION_DAYS = 10
    day = 24 * 60
    old = make_job("succeeded", finished_at=minutes_ago(11 * day))
    kept = [make_job("failed", finished_at=minutes_ago(9 * day)), make_job("queued")]
    reaper = Reaper()
    done = reaper.tick(now=0.0)
    assert done is not None
    assert done.purged == 1
    assert not Job.objects.filter(pk=old.pk).exists()
    assert Job.objects.count() == len(kept)
    # The next look is a minute later.
    make_job("succeeded", finished_at=minutes_ago(11 * day))
    rounds = [reaper.tick(now=now) for now in (1.0, 59.0, 61.0)]
    assert [done and done.purged for done in rounds] == [0, 0, 1]


# --- Polls --------------------------------------------------------------------------------------
@pytest.fixture
def slots(worker: Worker, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Slots:
    """Two slots, which run nothing."""
    monkeypatch.setattr("jobs.worker.slots.gevent.spawn", lambda work: None)
    settings.JOB_CONCURRENCY = 2
    slots = Slots()
    slots.worker_id, slots.worker_name = worker.pk, worker.name
    return slots


def test_a_poll_costs_one_query_and_opens_a_slot_for_a_due_job(slots: Slots) -> None:
    make_job(is_due=False, run_at=timezone.now() + timedelta(hours=1))
    with CaptureQueriesContext(connection) as queries:
        slots.poll()
    assert (slots.open_count, len(queries)) == (0, 1)
    # However many wait, one slot is opened; it opens the next.
    queue(20)
    with CaptureQueriesContext(connection) as queries:
        slots.poll()
    assert (slots.open_count, len(queries)) == (1, 1)


def test_a_worker_that_is_full_claims_or_drains_does_not_poll(slots: Slots) -> None:
    queue(1)
    with CaptureQueriesContext(connection) as queries:
        with slots.claiming:
            slots.poll()
        slots.is_draining = True
        slots.poll()
        slots.is_draining = False
        slots.open_count = 2
        slots.poll()
    assert (slots.open_count, len(queries)) == (2, 0)


def test_a_thousand_jobs_that_limits_exclude_cost_a_poll_one_claim(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.worker.slots.gevent.spawn", lambda work: work())
    slots = Slots()
    slots.worker_id, slots.worker_name = worker.pk, worker.name
    owner = account("bounded", max_running_jobs=1)
    make_job("running", account=owner, worker=worker)
    first = queue(1, owner=owner)[0]
    Job.objects.bulk_create(
        Job(account=owner, chain=first.chain, input={}, timeout_seconds=60, max_attempts=3, rank=n)
        for n in range(1000)
    )
    for claims in range(1, 4):
        slots.poll()
        assert (slots.claims, slots.open_count) == (claims, 0)
