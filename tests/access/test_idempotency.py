"""One answer a key, on the real database and with real threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from access import idempotency
from access.idempotency import Answer, Ticket
from access.models import Account, IdempotencyKey
from config.api.errors import ApiError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db

THREADS = 8
ANSWER = Answer(status=202, body={"id": "job_1"}, headers={"Location": "/v1/jobs/job_1"})
in_threads = pytest.mark.django_db(transaction=True)


@pytest.fixture
def account(db: None) -> Account:
    return Account.objects.create(name="idempotent")


@pytest.fixture
def begin(account: Account) -> Callable[..., Any]:
    """Return a function that begins a request of the account."""

    def begin(key: str = "k", body: str = "body", *, lease_seconds: float = 30.0) -> Any:
        mark = idempotency.fingerprint(body.encode())
        return idempotency.begin(
            account_id=account.pk, key=key, fingerprint=mark, lease_seconds=lease_seconds
        )

    return begin


def all_at_once(work: Callable[[], Any], count: int = THREADS) -> list[Any]:
    """Return what a function returned or raised in each of so many threads."""
    barrier = threading.Barrier(count)

    def run() -> Any:
        barrier.wait()
        try:
            return work()
        except ApiError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(run) for _ in range(count)]]


def refusals(results: list[Any]) -> list[tuple[int, str | None]]:
    return [(error.status, error.code) for error in results if isinstance(error, ApiError)]


def expire_lease() -> None:
    IdempotencyKey.objects.update(lease_until=Now() - timedelta(seconds=1))


def age(hours: float) -> None:
    IdempotencyKey.objects.update(created_at=Now() - timedelta(hours=hours))


# --- One after the other ------------------------------------------------------------------------
def test_the_answer_comes_again(begin):
    begin().store(ANSWER)
    assert begin() == begin() == ANSWER


def test_an_answer_without_a_body_comes_again(begin):
    answer = Answer(status=204, body=None, headers={})
    begin().store(answer)
    assert begin() == answer


def test_another_request_with_the_same_key_is_refused(begin):
    ticket = begin()
    for _ in ("under way", "answered"):
        with pytest.raises(InvalidRequest) as caught:
            begin(body="other")
        assert (caught.value.status, caught.value.code) == (422, "idempotency_key_reused")
        ticket.store(ANSWER)
    assert begin() == ANSWER


def test_while_the_first_is_under_way_the_second_gets_409(begin):
    begin()
    with pytest.raises(ApiError) as caught:
        begin()
    assert (caught.value.status, caught.value.code) == (409, "idempotency_key_in_use")
    assert int(caught.value.headers["Retry-After"]) >= 1


def test_keys_of_two_accounts_are_two_keys(begin):
    begin().store(ANSWER)
    other = Account.objects.create(name="another")
    begun = idempotency.begin(account_id=other.pk, key="k", fingerprint="x", lease_seconds=30)
    assert isinstance(begun, Ticket)


def test_a_released_key_is_free_for_any_request(begin):
    ticket = begin()
    ticket.release()
    ticket.release()
    assert ticket.is_over
    assert isinstance(begin(body="other"), Ticket)


def test_a_release_never_removes_a_response(begin):
    ticket = begin()
    ticket.store(ANSWER)
    ticket.release()
    assert begin() == ANSWER


# --- Leases and age -----------------------------------------------------------------------------
def test_a_dead_process_s_key_is_free_after_its_lease(begin):
    dead = begin(lease_seconds=0.2)
    with pytest.raises(ApiError):
        begin()
    # The database's clock decides, and inside the test's transaction it goes on.
    time.sleep(0.3)
    heir = begin(body="other")
    assert isinstance(heir, Ticket)
    # It was only frozen, and comes back: nothing that it does touches its heir's key.
    assert dead.renew(60) is False
    assert dead.store(ANSWER) is False
    dead.is_over = False
    dead.release()
    with pytest.raises(ApiError) as caught:
        begin(body="other")
    assert caught.value.code == "idempotency_key_in_use"
    other = Answer(status=201, body=[1], headers={})
    assert heir.store(other) is True
    assert begin(body="other") == other


def test_a_renewed_lease_does_not_expire(begin):
    ticket = begin(lease_seconds=0.2)
    assert ticket.renew(60) is True
    time.sleep(0.3)
    with pytest.raises(ApiError):
        begin()


def test_a_response_is_stored_for_the_set_time(begin, settings):
    settings.IDEMPOTENCY_HOURS = 2
    begin().store(ANSWER)
    expire_lease()
    age(1.9)
    assert begin() == ANSWER
    age(2.1)
    assert isinstance(begin(body="other"), Ticket)
    # It counts from now on.
    with pytest.raises(ApiError):
        begin(body="other")


def test_a_request_that_runs_for_very_long_holds_its_key(begin, settings):
    settings.IDEMPOTENCY_HOURS = 1
    ticket = begin()
    age(5)
    with pytest.raises(ApiError) as caught:
        begin()
    assert caught.value.code == "idempotency_key_in_use"
    assert idempotency.purge(batch=10) == 0
    assert ticket.store(ANSWER) is True


def test_purging_removes_old_keys_batch_by_batch(begin, settings):
    settings.IDEMPOTENCY_HOURS = 1
    for number in range(5):
        begin(key=f"old {number}").store(ANSWER)
    begin(key="dead")
    expire_lease()
    age(2)
    begin(key="new").store(ANSWER)
    assert [idempotency.purge(batch=4) for _ in range(3)] == [4, 2, 0]
    assert [row.key for row in IdempotencyKey.objects.all()] == ["new"]


# --- At the same instant ------------------------------------------------------------------------
@in_threads
def test_of_many_at_once_one_is_let_in(begin):
    results = all_at_once(begin)
    assert sum(isinstance(result, Ticket) for result in results) == 1
    assert refusals(results) == [(409, "idempotency_key_in_use")] * (THREADS - 1)


@in_threads
def test_of_many_that_find_a_dead_process_s_key_one_takes_it(begin):
    begin()
    for _ in range(5):
        expire_lease()
        results = all_at_once(begin)
        assert sum(isinstance(result, Ticket) for result in results) == 1
        assert refusals(results) == [(409, "idempotency_key_in_use")] * (THREADS - 1)


@in_threads
def test_of_many_that_find_an_old_response_one_replaces_it(begin, settings):
    begin().store(ANSWER)
    age(settings.IDEMPOTENCY_HOURS + 1)
    results = all_at_once(begin)
    assert sum(isinstance(result, Ticket) for result in results) == 1
    assert len(refusals(results)) == THREADS - 1


@in_threads
def test_of_many_different_requests_at_once_one_is_let_in(begin):
    numbers = iter(range(THREADS))
    results = all_at_once(lambda: begin(body=f"body {next(numbers)}"))
    assert sum(isinstance(result, Ticket) for result in results) == 1
    assert refusals(results) == [(422, "idempotency_key_reused")] * (THREADS - 1)


@in_threads
def test_those_that_run_in_a_transaction_each_wait_for_the_first_one_s_answer(begin):
    done = []

    def submit() -> Answer:
        with transaction.atomic():
            begun = begin()
            if isinstance(begun, Answer):
                return begun
            time.sleep(0.2)
            done.append("once")
            begun.store(ANSWER)
        return ANSWER

    assert all_at_once(submit) == [ANSWER] * THREADS
    assert done == ["once"]


@in_threads
def test_when_the_first_transaction_is_rolled_back_the_next_one_is_the_first(begin):
    tries = []

    def submit() -> Any:
        with transaction.atomic():
            begun = begin()
            if isinstance(begun, Answer):
                return begun
            tries.append("try")
            time.sleep(0.1)
            if len(tries) == 1:
                raise ApiError(500, "Something went wrong.", code="internal_error")
            begun.store(ANSWER)
        return ANSWER

    results = all_at_once(submit)
    assert len(tries) == 2
    assert refusals(results) == [(500, "internal_error")]
    assert [result for result in results if not isinstance(result, ApiError)] == [ANSWER] * (
        THREADS - 1
    )


@in_threads
def test_a_response_that_is_rolled_back_is_not_stored_and_frees_the_key(begin):
    ticket = begin()
    with transaction.atomic():
        ticket.store(ANSWER)
        transaction.set_rollback(True)
    assert not ticket.is_over
    ticket.release()
    assert isinstance(begin(), Ticket)


@in_threads
def test_no_request_waits_for_a_transaction_for_ever(begin):
    is_begun, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            begin()
            is_begun.set()
            may_end.wait(10)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    is_begun.wait(10)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
        with pytest.raises(ApiError) as caught:
            begin()
    finally:
        may_end.set()
        holder.join()
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    assert (caught.value.status, caught.value.code) == (409, "idempotency_key_in_use")


# --- Keys ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["a", " a ", "8e03978e-40d5", "a b", "x" * 255])
def test_a_key_is_any_printable_text(key):
    assert idempotency.read_key({"Idempotency-Key": key}) == key.strip()


def test_a_request_needs_no_key():
    assert idempotency.read_key({}) is None


@pytest.mark.parametrize("key", ["", "  ", "x" * 256, "ü", "a\tb", "a\x00"])
def test_other_keys_are_refused(key):
    with pytest.raises(InvalidRequest) as caught:
        idempotency.read_key({"Idempotency-Key": key})
    assert (caught.value.status, caught.value.code) == (400, "invalid_idempotency_key")


def test_a_fingerprint_depends_on_where_a_part_ends():
    assert idempotency.fingerprint(b"ab", b"c") != idempotency.fingerprint(b"a", b"bc")
    assert len(idempotency.fingerprint(b"x" * 10**6)) == 64
