"""Tokens of a day that calls under way have reserved."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from access.errors import LimitExceeded
from access.limits import Reservation, reserve_tokens


def reserve(key_id: uuid.UUID, tokens: int, *, of: int = 100, **more: Any) -> Reservation:
    return reserve_tokens(key_id=key_id, tokens_per_day=of, tokens=tokens, **more)


def test_calls_that_begin_at_once_do_not_all_find_the_last_tokens_free() -> None:
    key = uuid.uuid4()
    first = reserve(key, 80)
    with pytest.raises(LimitExceeded) as refused:
        reserve(key, 30)
    assert refused.value.code == "tokens_per_day_exceeded"
    # What is reserved may be more than is used, so it is worth asking again soon.
    assert refused.value.retry_after_seconds == pytest.approx(5)
    assert "retry-after" in {name.lower() for name in refused.value.headers}
    second = reserve(key, 20)
    first.finish(40)
    third = reserve(key, 30)
    second.finish(20)
    third.finish(30)
    third.finish(30)
    # 90 are used: one call that is larger than the rest passes alone.
    last = reserve(key, 500)
    last.finish(400)
    with pytest.raises(LimitExceeded) as over:
        reserve(key, 1)
    assert (over.value.retry_after_seconds or 0) > 5 or _is_nearly_midnight()


def test_a_response_that_is_waited_for_is_refused_for_used_tokens_alone() -> None:
    key = uuid.uuid4()
    reserve(key, 90)
    waited_for = reserve(key, 90, waits_for_others=False)
    waited_for.finish(100)
    with pytest.raises(LimitExceeded):
        reserve(key, 1, waits_for_others=False)


def test_a_key_without_a_limit_reserves_nothing() -> None:
    key = uuid.uuid4()
    for _ in range(3):
        reserve(key, 10**9, of=0)


def _is_nearly_midnight() -> bool:
    return time.time() % 86_400 > 86_390
