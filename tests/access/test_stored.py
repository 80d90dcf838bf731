"""An account stores so many rows of a kind, and no other account is refused for it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client import REGISTRY

from access import idempotency
from access.errors import StoredExceeded
from access.idempotency import Answer, Ticket
from access.limits.stored import StoredLimit
from access.models import Account, IdempotencyKey

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    return Account.objects.create(name="acme")


@pytest.fixture(autouse=True)
def _count_again() -> Iterator[None]:
    idempotency.STORED.reset()
    yield
    idempotency.STORED.reset()


def begin(account: Account, key: str) -> Ticket | Answer:
    return idempotency.begin(account_id=account.pk, key=key, fingerprint="f", lease_seconds=30.0)


def test_one_idempotency_key_too_many_is_refused_and_a_used_one_is_answered(
    account: Account, settings: Any
) -> None:
    settings.IDEMPOTENCY_ACCOUNT_MAX_KEYS = 1
    labels = {"kind": "idempotency_keys"}
    refused = REGISTRY.get_sample_value("headrace_stored_refused_total", labels) or 0
    ticket = begin(account, "first")
    assert isinstance(ticket, Ticket)
    ticket.store(Answer(status=202, body={}, headers={}))
    idempotency.STORED.forget(account.pk)
    with pytest.raises(StoredExceeded, match="IDEMPOTENCY_ACCOUNT_MAX_KEYS") as caught:
        begin(account, "second")
    assert (caught.value.status, caught.value.code) == (429, "too_many_idempotency_keys")
    assert caught.value.should_retry is False
    assert isinstance(begin(account, "first"), Answer)
    assert isinstance(begin(Account.objects.create(name="other"), "second"), Ticket)
    assert REGISTRY.get_sample_value("headrace_stored_refused_total", labels) == refused + 1


def test_no_more_rows_are_counted_than_the_limit_and_once(account: Account, settings: Any) -> None:
    settings.IDEMPOTENCY_ACCOUNT_MAX_KEYS = 2
    limit = StoredLimit(
        "idempotency_keys",
        setting="IDEMPOTENCY_ACCOUNT_MAX_KEYS",
        rows=lambda account_id: IdempotencyKey.objects.filter(account_id=account_id),
    )
    for key in "abc":
        IdempotencyKey.objects.create(account=account, key=key, lease_until=timezone.now())
    with CaptureQueriesContext(connection) as queries:
        assert limit.is_full(account.pk)
        assert limit.is_full(account.pk)
    assert len(queries) == 1
    assert "LIMIT 2" in queries[0]["sql"]


def test_zero_is_no_limit_and_counts_nothing(settings: Any, django_assert_num_queries: Any) -> None:
    settings.IDEMPOTENCY_ACCOUNT_MAX_KEYS = 0
    with django_assert_num_queries(0):
        idempotency.STORED.check(uuid.uuid4())
