from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from access.limits import admit, count_tokens
from access.limits.deferred import MAX_REPORTED_AT_ONCE, DeferredLimiter
from access.principal import Limits
from scaling.redis_client import run
from tests.access.hit_calls import (
    NEVER,
    eventually,
    passes,
    refused,
    refused_miss,
    remaining,
    sample,
    seconds,
)

pytestmark = pytest.mark.usefixtures("own_redis")


def with_limits(principal, **limits: int):
    return replace(principal, limits=Limits(**limits))


def scripts_run() -> int:
    stats = run(lambda client: client.info("commandstats"))
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


# --- One process --------------------------------------------------------------------------------
def test_exactly_the_minute_s_allowance_passes_and_the_rest_is_refused_as_admit_does(
    make_principal, limiter
):
    principal, twin = make_principal(requests_per_minute=60), make_principal(requests_per_minute=60)
    left = [int(limiter.count(principal).headers["x-ratelimit-remaining-requests"])]
    left += [
        int(limiter.count(principal).headers["x-ratelimit-remaining-requests"]) for _ in "x" * 59
    ]
    assert left == list(range(59, -1, -1))
    for _ in range(60):
        admit(twin, is_model_call=True)
    error, expected = refused(limiter, principal), refused_miss(twin)
    assert (error.status, error.code, error.message) == (
        expected.status,
        expected.code,
        expected.message,
    )
    assert error.limit == "requests_per_minute"
    assert error.headers.keys() == expected.headers.keys()
    assert error.headers["Retry-After"] == expected.headers["Retry-After"] == "1"
    assert error.retry_after_seconds == pytest.approx(expected.retry_after_seconds, abs=0.5)
    # The wait of the response is the right one.
    assert error.retry_after_seconds is not None
    time.sleep(error.retry_after_seconds)
    assert passes(limiter, principal) == 1


def test_deferred_limiter_sends_the_same_headers_as_admit(make_principal, limiter):
    limits = {"requests_per_minute": 50, "tokens_per_day": 1000, "max_concurrent": 3}
    principal, twin = make_principal(**limits), make_principal(**limits)
    for key in (principal, twin):
        count_tokens(key_id=key.key_id, tokens=123)
    for _ in range(50):
        headers, expected = limiter.count(principal).headers, None
        admission = admit(twin, is_model_call=True)
        expected = admission.headers
        admission.finish()
        assert list(headers) == list(expected)
        times = {name for name in headers if "-reset-" in name}
        for name in headers.keys() - times:
            assert headers[name] == expected[name], name
        for name in times:
            assert seconds(headers[name]) == pytest.approx(seconds(expected[name]), abs=1), name
    error, expected_error = refused(limiter, principal), refused_miss(twin)
    assert list(error.headers) == list(expected_error.headers)


def test_however_many_come_at_once_no_more_pass_than_the_limit(make_principal):
    limiter = DeferredLimiter(sync_seconds=0.01)
    principal = make_principal(requests_per_minute=60)
    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        passed = sum(pool.map(lambda _: passes(limiter, principal, 30), range(16)))
    refilled = int(time.monotonic() - started + 0.1)
    assert 60 <= passed <= 60 + refilled


def test_a_key_without_limits_costs_no_round_trip_and_no_memory(make_principal, limiter):
    before = scripts_run()
    assert limiter.count(make_principal()).headers == {}
    assert limiter.count(make_principal(max_concurrent=1)).headers == {}
    assert scripts_run() == before
    assert len(limiter) == 0


def test_a_thousand_hits_cost_two_round_trips(make_principal, limiter):
    principal = make_principal(requests_per_minute=5000, tokens_per_day=5)
    limiter.count(principal)
    before = scripts_run()
    assert passes(limiter, principal, 1000) == 1000
    assert scripts_run() == before
    assert limiter.sync_once() == "reported 1000 hits of 1 keys"
    assert limiter.sync_once() == "reported 0 hits of 0 keys"
    assert remaining(principal) == pytest.approx(5000 - 1002, abs=60)


def test_more_keys_than_fit_in_one_round_are_all_reported(make_principal, limiter):
    principals = [
        make_principal(requests_per_minute=50) for _ in range(2 * MAX_REPORTED_AT_ONCE + 1)
    ]
    for principal in principals:
        assert passes(limiter, principal, 3) == 3
    run(lambda client: client.script_flush())
    assert limiter.sync_once() == f"reported {2 * len(principals)} hits of {len(principals)} keys"
    assert {remaining(principal) for principal in principals[::100]} <= {46, 47}


def test_the_thread_reports_hits_and_evicts_idle_keys(make_principal):
    limiter = DeferredLimiter(sync_seconds=0.02)
    principal = make_principal(requests_per_minute=20)
    assert passes(limiter, principal, 10) == 10
    eventually(lambda: len(limiter) == 0)
    assert remaining(principal) == 9


def test_an_evicted_key_s_hits_are_reported(make_principal):
    limiter = DeferredLimiter(sync_seconds=NEVER, max_keys=2)
    first, *others = [make_principal(requests_per_minute=20) for _ in range(4)]
    assert passes(limiter, first, 5) == 5
    for principal in others:
        limiter.count(principal)
    assert len(limiter) == 2
    assert limiter.sync_once() == "reported 4 hits of 1 keys"
    assert remaining(first) == 14


def test_the_key_that_was_used_last_stays(make_principal):
    limiter = DeferredLimiter(sync_seconds=NEVER, max_keys=2)
    old, new, newest = [make_principal(requests_per_minute=20) for _ in range(3)]
    for principal in (old, new, old):
        limiter.count(principal)
    limiter.sync_once()
    limiter.count(newest)
    before = scripts_run()
    limiter.count(old)
    assert scripts_run() == before
    limiter.count(new)
    assert scripts_run() == before + 1


def test_other_limits_count_from_the_next_call(make_principal, limiter):
    principal = make_principal(requests_per_minute=10)
    assert passes(limiter, principal, 20) == 10
    more = with_limits(principal, requests_per_minute=20)
    # Half of the minute is used, under any limit; its hits were reported at the new interval.
    assert limiter.count(more).headers["x-ratelimit-limit-requests"] == "20"
    less = with_limits(principal, requests_per_minute=1)
    assert refused(limiter, less).code == "requests_per_minute_exceeded"
    assert limiter.count(with_limits(principal)).headers == {}
    tokens_too = with_limits(principal, requests_per_minute=1000, tokens_per_day=5)
    count_tokens(key_id=principal.key_id, tokens=5)
    assert refused(limiter, tokens_too).code == "tokens_per_day_exceeded"
    assert passes(limiter, with_limits(principal, tokens_per_day=6), 3) == 3


def test_equal_limits_of_another_object_need_no_round_trip(make_principal, limiter):
    principal = make_principal(requests_per_minute=10)
    limiter.count(principal)
    before = scripts_run()
    limiter.count(with_limits(principal, requests_per_minute=10))
    assert scripts_run() == before


# --- Together with misses -----------------------------------------------------------------------
def test_misses_see_the_hits_that_were_reported(make_principal, limiter):
    principal = make_principal(requests_per_minute=60)
    assert passes(limiter, principal, 50) == 50
    limiter.sync_once()
    for _ in range(10):
        admit(principal, is_model_call=True)
    assert refused_miss(principal).code == "requests_per_minute_exceeded"


def test_hits_see_the_misses_after_a_sync(make_principal, limiter):
    principal = make_principal(requests_per_minute=60)
    limiter.count(principal)
    for _ in range(49):
        admit(principal, is_model_call=True)
    assert limiter.count(principal).headers["x-ratelimit-remaining-requests"] == "58"
    limiter.sync_once()
    assert passes(limiter, principal, 60) == 9


def test_a_key_over_its_limit_is_refused_at_its_first_hit(make_principal, limiter):
    principal = make_principal(requests_per_minute=2)
    for _ in range(2):
        admit(principal, is_model_call=True)
    before = sample("headrace_limits_refused_total", limit="requests_per_minute")
    error = refused(limiter, principal)
    assert error.retry_after_seconds == pytest.approx(30, abs=1)
    assert sample("headrace_limits_refused_total", limit="requests_per_minute") == before + 1


def test_refused_hits_are_not_counted(make_principal, limiter):
    principal = make_principal(requests_per_minute=6)
    assert passes(limiter, principal, 50) == 6
    assert limiter.sync_once() == "reported 5 hits of 1 keys"
    assert passes(limiter, principal, 50) == 0
    assert limiter.sync_once() == "reported 0 hits of 1 keys"
    assert refused_miss(principal).retry_after_seconds == pytest.approx(10, abs=1)


def test_a_day_that_is_used_up_refuses_hits(make_principal, limiter, other):
    principal = make_principal(requests_per_minute=60, tokens_per_day=100)
    assert limiter.count(principal).headers["x-ratelimit-remaining-tokens"] == "100"
    count_tokens(key_id=principal.key_id, tokens=100)
    assert refused(other, principal).code == "tokens_per_day_exceeded"
    limiter.count(principal)
    limiter.sync_once()
    for _ in range(2):
        error = refused(limiter, principal)
        assert error.code == "tokens_per_day_exceeded"
        to_midnight = 86_400 - time.time() % 86_400
        assert error.retry_after_seconds == pytest.approx(to_midnight, abs=2)
        assert error.headers["x-ratelimit-remaining-tokens"] == "0"


def test_a_hit_needs_no_slot(make_principal, limiter):
    principal = make_principal(requests_per_minute=60, max_concurrent=1)
    running = admit(principal, is_model_call=True)
    assert passes(limiter, principal, 5) == 5
    assert refused_miss(principal).code == "too_many_concurrent_requests"
    running.finish()
