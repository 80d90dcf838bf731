"""Calls of a deferred limiter, and of Redis, that tests of hits share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from access.errors import LimitExceeded
from access.limits import admit
from tests.support import waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from access.limits.deferred import DeferredLimiter
    from access.principal import Principal

# So long that only the test itself syncs.
NEVER = 600.0


def passes(limiter: DeferredLimiter, principal: Principal, attempts: int = 1) -> int:
    passed = 0
    for _ in range(attempts):
        try:
            limiter.count(principal)
        except LimitExceeded:
            continue
        passed += 1
    return passed


def remaining(principal: Principal) -> int:
    """Return what is left after one more request that Redis itself counts."""
    headers = admit(principal, is_model_call=True).headers
    return int(headers["x-ratelimit-remaining-requests"])


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def eventually(is_so: Callable[[], bool], *, within_seconds: float = 5.0) -> None:
    waiting.eventually(
        is_so, seconds=within_seconds, what="the limiter gets there", every_seconds=0.01
    )


def refused_miss(principal: Principal) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as refusal:
        admit(principal, is_model_call=True)
    return refusal.value


def refused(limiter: DeferredLimiter, principal: Principal) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as refusal:
        limiter.count(principal)
    return refusal.value


def seconds(text: str) -> float:
    """Read a duration back."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?|([\d.]+)ms", text)
    assert found is not None
    hours, minutes, secs, millis = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + secs + millis / 1000
