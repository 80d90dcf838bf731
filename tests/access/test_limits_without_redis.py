"""Limits while Redis is unavailable, has rubbish, or has another time."""

from __future__ import annotations

import time

import pytest

import scaling.redis_client
from access.limits import admit, count_tokens
from scaling.redis_client import Script, run
from tests.access.limit_calls import names, refused, sample, seconds_refused
from tests.support.waiting import slack


def test_a_clock_that_was_set_back_locks_nobody_out_for_long(make_principal):
    principal = make_principal(requests_per_minute=60)
    rate, _, _ = names(principal)
    in_a_year = (time.time() + 3e7) * 1e6
    run(lambda client: client.set(rate, f"{in_a_year:.3f}"))
    assert seconds_refused(principal) <= 1
    # The wait comes to an end.
    (full_at, *_) = (run(lambda client: client.get(rate)) or b"").split()
    full_in = float(full_at) / 1e6 - time.time()
    assert full_in == pytest.approx(60, abs=1)
    assert 0 < run(lambda client: client.pttl(rate)) <= 60_001


def test_the_use_stays_as_it_was_when_the_clock_is_set_back(make_principal):
    principal = make_principal(requests_per_minute=60)
    rate, _, _ = names(principal)
    written = (time.time() + 600) * 1e6
    run(lambda client: client.set(rate, f"{written + 60e6:.3f} {written:.0f}"))
    # The minute is used up, and comes back bit by bit. The microseconds pass through doubles.
    assert seconds_refused(principal) < 1.001
    time.sleep(1.1)
    admit(principal, is_model_call=True).finish()


def test_rubbish_in_redis_is_no_outage(make_principal):
    principal = make_principal(requests_per_minute=5, tokens_per_day=5, max_concurrent=5)
    rate, tokens, leases = names(principal)
    run(lambda client: client.mset({rate: "rubbish", tokens: "rubbish"}))
    admit(principal, is_model_call=True).finish()
    run(lambda client: client.set(leases, "of the wrong type"))
    before = sample("headrace_limits_local_total", step="admit")
    admit(principal, is_model_call=True).finish()
    assert sample("headrace_limits_local_total", step="admit") == before + 1


def test_a_script_that_answers_rubbish_is_no_outage(make_principal, monkeypatch):
    principal = make_principal(requests_per_minute=5)
    for answer in ("'OK'", "{1, 'x'}", "{1, 2}", "{9, 0, 0, 0, 0, 0}", "nil"):
        monkeypatch.setattr("access.limits.shared._ADMIT", Script(f"return {answer}"))
        scaling.redis_client.reset()
        admit(principal, is_model_call=True).finish()


def test_without_redis_each_process_applies_the_limits_itself(make_principal, own_redis):
    principal = make_principal(requests_per_minute=2, tokens_per_day=100, max_concurrent=1)
    own_redis.kill()
    before = sample("headrace_limits_local_total", step="admit")
    first = admit(principal, is_model_call=True)
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert refused(principal).code == "too_many_concurrent_requests"
    first.add_tokens(10)
    first.finish()
    second = admit(principal, is_model_call=True)
    assert second.headers["x-ratelimit-remaining-tokens"] == "90"
    second.finish()
    assert refused(principal).code == "requests_per_minute_exceeded"
    assert sample("headrace_limits_local_total", step="admit") == before + 4


def test_a_frozen_redis_costs_a_request_one_timeout_and_later_ones_nothing(
    make_principal, own_redis, settings
):
    settings.REDIS_RETRY_SECONDS = 30
    principal = make_principal(requests_per_minute=1000, max_concurrent=1000)
    admit(principal, is_model_call=True).finish()
    own_redis.freeze()
    first, others = timed(principal), [timed(principal) for _ in range(50)]
    assert first < 10 * settings.REDIS_TIMEOUT_SECONDS
    assert sum(others) < 10 * settings.REDIS_TIMEOUT_SECONDS


def test_the_shared_limits_are_back_soon_after_redis_is(make_principal, own_redis, settings):
    settings.REDIS_RETRY_SECONDS = 0.2
    principal = make_principal(max_concurrent=1)
    admit(make_principal(max_concurrent=1), is_model_call=True).finish()
    own_redis.freeze()
    during = admit(principal, is_model_call=True)
    own_redis.thaw()
    time.sleep(0.25)
    during.finish()
    deadline = time.monotonic() + slack(5)
    while True:
        before = sample("headrace_limits_local_total", step="admit")
        # The lease that the frozen server took all the same was released with its request.
        admit(principal, is_model_call=True).finish()
        if sample("headrace_limits_local_total", step="admit") == before:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_redis_that_dies_during_a_request_spoils_nothing(make_principal, own_redis):
    principal = make_principal(tokens_per_day=100, max_concurrent=1)
    admission = admit(principal, is_model_call=True)
    own_redis.kill()
    admission.add_tokens(100)
    admission.finish()
    assert refused(principal).code == "tokens_per_day_exceeded"


def test_counting_tokens_without_redis_raises_nothing(make_principal, own_redis):
    principal = make_principal(tokens_per_day=10, max_concurrent=1)
    own_redis.kill()
    before = sample("headrace_limits_local_total", step="finish")
    count_tokens(key_id=principal.key_id, tokens=100)
    assert sample("headrace_limits_local_total", step="finish") == before + 1
    running = admit(principal, is_model_call=True)
    admit(principal, is_model_call=True, needs_slot=False).finish()
    assert refused(principal).code == "too_many_concurrent_requests"
    running.finish()


def timed(principal) -> float:
    started = time.monotonic()
    admit(principal, is_model_call=True).finish()
    return time.monotonic() - started
