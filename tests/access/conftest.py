from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

import scaling.redis_client
from access import services
from access.limits.admission import LOCAL_LIMITER
from access.limits.deferred import DeferredLimiter
from access.principal import Limits, Principal
from tests.access.hit_calls import NEVER
from tests.support.redis_server import own_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["own_redis"]


@pytest.fixture(autouse=True)
def _forget_everything() -> Iterator[None]:
    services.KNOWN_KEYS.clear()
    LOCAL_LIMITER.clear()
    scaling.redis_client.reset()
    yield
    services.KNOWN_KEYS.clear()


@pytest.fixture
def make_principal() -> Callable[..., Principal]:
    """Return a maker of principals with limits that no other test shares."""

    def make(**limits: int) -> Principal:
        return Principal(
            key_id=uuid.uuid4(),
            account_id=uuid.uuid4(),
            account_name="acme",
            name="test",
            scopes=frozenset({"chat"}),
            limits=Limits(**limits),
        )

    return make


@pytest.fixture
def limiter() -> DeferredLimiter:
    return DeferredLimiter(sync_seconds=NEVER)


@pytest.fixture
def other() -> DeferredLimiter:
    """Return what another process would have."""
    return DeferredLimiter(sync_seconds=NEVER)
