"""Hits while Redis is unavailable."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest

from access.limits.deferred import MAX_QUEUED_SECONDS, DeferredLimiter
from scaling.redis_client import run
from tests.access.hit_calls import NEVER, eventually, passes, remaining, sample
from tests.support.waiting import slack

pytestmark = pytest.mark.usefixtures("own_redis")


@pytest.fixture
def _no_collection() -> Iterator[None]:
    # A full pass over all that the test run has loaded takes longer than the times measured.
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection")
@pytest.mark.parametrize("harm", ["kill", "freeze"])
def test_a_flood_goes_on_when_redis_does_not(make_principal, own_redis, settings, harm):
    limiter = DeferredLimiter(sync_seconds=0.05)
    known = make_principal(requests_per_minute=10_000_000)
    before = sample("headrace_limits_local_total", step="hit")
    started = time.monotonic()
    slowest, last = 0.0, []
    is_harmed = False
    while (elapsed := time.monotonic() - started) < 1.6:
        if elapsed > 0.2 and not is_harmed:
            getattr(own_redis, harm)()
            is_harmed = True
        for principal in (known, make_principal(requests_per_minute=5)):
            called = time.monotonic()
            limiter.count(principal)
            took = time.monotonic() - called
            slowest = max(slowest, took)
            if elapsed > 0.6:
                last.append(took)
        time.sleep(0.0005)
    own_redis.thaw()
    assert sample("headrace_limits_local_total", step="hit") > before
    # A timeout, and what a busy machine adds.
    assert slowest < slack(settings.REDIS_TIMEOUT_SECONDS + 0.04)
    # No call waits for Redis while the thread probes it either.
    assert sorted(last)[len(last) // 2] < 0.001
    assert sorted(last)[-len(last) // 100] < 0.01


def test_without_redis_a_process_applies_the_full_limit_itself(make_principal, own_redis, limiter):
    own_redis.kill()
    principal = make_principal(requests_per_minute=5, tokens_per_day=10)
    before = sample("headrace_limits_local_total", step="hit")
    headers = limiter.count(principal).headers
    assert headers["x-ratelimit-remaining-requests"] == "4"
    assert headers["x-ratelimit-remaining-tokens"] == "10"
    assert passes(limiter, principal, 10) == 4
    assert sample("headrace_limits_local_total", step="hit") == before + 11
    assert len(limiter) <= 1


def test_hits_of_an_outage_are_reported_when_redis_is_back(
    make_principal, own_redis, limiter, settings
):
    settings.REDIS_RETRY_SECONDS = 0
    principal = make_principal(requests_per_minute=60)
    assert passes(limiter, principal, 11) == 11
    own_redis.kill()
    failures = sample("headrace_limits_sync_failures_total")
    for _ in range(3):
        assert limiter.sync_once().startswith("could not report hits")
    assert sample("headrace_limits_sync_failures_total") == failures + 3
    own_redis.start()
    assert limiter.sync_once() == "reported 10 hits of 1 keys"
    assert remaining(principal) == 49


def test_the_thread_uses_redis_again_when_that_is_back(make_principal, own_redis, settings):
    settings.REDIS_RETRY_SECONDS = 0.05
    limiter = DeferredLimiter(sync_seconds=0.02)
    principal = make_principal(requests_per_minute=1000)
    limiter.count(principal)
    own_redis.kill()
    before = sample("headrace_limits_local_total", step="hit")

    def is_local() -> bool:
        limiter.count(principal)
        return sample("headrace_limits_local_total", step="hit") > before

    eventually(is_local)
    own_redis.start()

    def is_shared() -> bool:
        limiter.count(principal)
        name = f"headrace:limits:{{{principal.key_id.hex}}}:rate"
        return bool(own_redis.client().exists(name))

    eventually(is_shared)
    before = sample("headrace_limits_local_total", step="hit")
    assert passes(limiter, principal, 100) == 100
    assert sample("headrace_limits_local_total", step="hit") == before


def test_hits_that_were_reported_to_a_frozen_redis_are_counted_once(
    make_principal, own_redis, limiter, settings
):
    settings.REDIS_RETRY_SECONDS = 0
    principal = make_principal(requests_per_minute=60)
    limiter.count(principal)
    # Now it has the script, as a Redis that froze in its work does.
    limiter.count(principal)
    limiter.sync_once()
    assert passes(limiter, principal, 10) == 10
    own_redis.freeze()
    dropped = sample("headrace_limits_hits_dropped_total", reason="unanswered")
    for _ in range(3):
        assert limiter.sync_once().startswith("could not report hits")
    assert sample("headrace_limits_hits_dropped_total", reason="unanswered") == dropped + 10
    assert limiter.count(principal).headers["x-ratelimit-remaining-requests"] == "47"
    own_redis.thaw()
    eventually(lambda: limiter.sync_once().startswith("reported"))
    assert remaining(principal) == 46


def test_hits_are_queued_for_a_minute_without_redis_and_then_dropped(
    make_principal, own_redis, settings
):
    settings.REDIS_RETRY_SECONDS = 0
    now = [100.0]
    limiter = DeferredLimiter(sync_seconds=NEVER, clock=lambda: now[0])
    principal = make_principal(requests_per_minute=60)
    assert passes(limiter, principal, 8) == 8
    own_redis.kill()
    limiter.sync_once()
    now[0] += MAX_QUEUED_SECONDS - 1
    dropped = sample("headrace_limits_hits_dropped_total", reason="away")
    limiter.sync_once()
    assert sample("headrace_limits_hits_dropped_total", reason="away") == dropped
    now[0] += 2
    limiter.sync_once()
    assert sample("headrace_limits_hits_dropped_total", reason="away") == dropped + 7
    own_redis.start()
    assert limiter.sync_once() == "reported 0 hits of 1 keys"


def test_a_key_that_redis_refuses_to_count_harms_no_other(make_principal, limiter):
    bad, good = (make_principal(requests_per_minute=60) for _ in range(2))
    name = f"headrace:limits:{{{bad.key_id.hex}}}:rate"
    for principal in (bad, good):
        assert passes(limiter, principal, 6) == 6
    run(lambda client: client.delete(name))
    run(lambda client: client.rpush(name, "of the wrong type"))
    limiter.sync_once()
    assert remaining(good) == 53
    run(lambda client: client.delete(name))
    assert limiter.sync_once() == "reported 5 hits of 1 keys"
    assert remaining(bad) == 54
