"""What one caller may hold of a node at once."""

from __future__ import annotations

import gc
import uuid
from typing import Any

import pytest

from access.errors import BudgetExceeded, NodeBudgetExceeded
from access.limits.budgets import Budget
from access.principal import Limits, Principal

ACCOUNT = uuid.uuid4()
BUDGET = Budget(
    "streams",
    key="MAX_STREAMS_PER_KEY",
    account="MAX_STREAMS_PER_ACCOUNT",
    node="MAX_STREAMS_PER_NODE",
)


def caller(*, account: uuid.UUID = ACCOUNT) -> Principal:
    return Principal(
        key_id=uuid.uuid4(),
        account_id=account,
        account_name="acme",
        name="key",
        scopes=frozenset(),
        limits=Limits(),
    )


@pytest.fixture(autouse=True)
def sizes(settings: Any) -> None:
    settings.MAX_STREAMS_PER_KEY = 2
    settings.MAX_STREAMS_PER_ACCOUNT = 3
    settings.MAX_STREAMS_PER_NODE = 5


def test_a_key_an_account_and_a_node_each_have_their_size() -> None:
    first, second, other = caller(), caller(), caller(account=uuid.uuid4())
    held = [BUDGET.take(first), BUDGET.take(first)]
    with pytest.raises(BudgetExceeded, match=r"API key .* 2 .*MAX_STREAMS_PER_KEY"):
        BUDGET.take(first)
    held.append(BUDGET.take(second))
    with pytest.raises(BudgetExceeded, match=r"account .* 3 .*MAX_STREAMS_PER_ACCOUNT") as caught:
        BUDGET.take(second)
    assert (caught.value.status, caught.value.code) == (429, "too_many_streams")
    # Another account is not concerned, until the node itself is full.
    held += [BUDGET.take(other), BUDGET.take(other)]
    with pytest.raises(NodeBudgetExceeded, match=r"MAX_STREAMS_PER_NODE") as refused:
        BUDGET.take(caller(account=uuid.uuid4()))
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "1")
    for slot in held:
        slot.release()
    assert BUDGET.used("node") == 0


def test_a_slot_is_released_once_however_its_request_ends() -> None:
    mine = caller()
    slot = BUDGET.take(mine)
    slot.release()
    slot.release()
    assert BUDGET.used("key", mine.key_id) == 0
    # A request without an end is collected at some time.
    BUDGET.take(mine)
    gc.collect()
    assert BUDGET.used("node") == 0


def test_nothing_is_taken_by_a_refusal() -> None:
    mine = caller()
    held = [BUDGET.take(mine), BUDGET.take(mine)]
    for _ in range(10):
        with pytest.raises(BudgetExceeded):
            BUDGET.take(mine)
    assert BUDGET.used("account", ACCOUNT) == BUDGET.used("node") == len(held)


def test_zero_is_no_limit(settings: Any) -> None:
    settings.MAX_STREAMS_PER_KEY = settings.MAX_STREAMS_PER_ACCOUNT = 0
    settings.MAX_STREAMS_PER_NODE = 0
    mine = caller()
    held = [BUDGET.take(mine) for _ in range(50)]
    assert BUDGET.used("key", mine.key_id) == len(held)
