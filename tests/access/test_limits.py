from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from access.errors import LimitExceeded
from access.limits import admission as admission_module
from access.limits import admit, count_tokens
from access.limits.verdict import format_duration
from scaling.redis_client import run
from tests.access.limit_calls import names, refused, sample, seconds_refused, try_at_once


@pytest.fixture
def calls(monkeypatch):
    """Return the list that every way to Redis is noted in."""
    noted = []

    def noting(work):
        noted.append(work)
        return run(work)

    monkeypatch.setattr("scaling.script_batch.run", noting)
    return noted


def test_a_key_without_limits_never_calls_redis(make_principal, calls):
    admission = admit(make_principal(), is_model_call=True)
    admission.add_tokens(1000)
    admission.finish()
    assert admission.headers == {}
    assert calls == []


def test_a_limited_model_call_costs_two_round_trips(make_principal, calls):
    principal = make_principal(requests_per_minute=5, tokens_per_day=100, max_concurrent=2)
    admission = admit(principal, is_model_call=True)
    assert len(calls) == 1
    admission.add_tokens(7)
    admission.finish()
    admission.finish()
    assert len(calls) == 2


def test_a_request_with_nothing_to_release_costs_no_second_round_trip(make_principal, calls):
    admit(make_principal(requests_per_minute=5), is_model_call=True).finish()
    admit(make_principal(tokens_per_day=5), is_model_call=True).finish()
    assert len(calls) == 2


def test_requests_that_call_no_model_count_as_requests_only(make_principal, calls):
    admit(make_principal(tokens_per_day=1, max_concurrent=1), is_model_call=False).finish()
    assert calls == []
    principal = make_principal(requests_per_minute=2, tokens_per_day=1, max_concurrent=1)
    headers = admit(principal, is_model_call=False).headers
    assert headers["x-ratelimit-remaining-requests"] == "1"
    assert "x-ratelimit-limit-tokens" not in headers


def test_requests_past_the_minute_s_allowance_are_refused_with_the_wait(make_principal):
    principal = make_principal(requests_per_minute=3)
    remaining = [
        admit(principal, is_model_call=True).headers["x-ratelimit-remaining-requests"]
        for _ in range(3)
    ]
    assert remaining == ["2", "1", "0"]
    error = refused(principal)
    assert (error.status, error.type) == (429, "rate_limit_error")
    assert error.code == "requests_per_minute_exceeded"
    assert error.retry_after_seconds == pytest.approx(20, abs=1)
    assert 18 <= int(error.headers["Retry-After"]) <= 20
    assert int(error.headers["retry-after-ms"]) == pytest.approx(20_000, abs=1000)
    assert error.headers["x-ratelimit-limit-requests"] == "3"
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    assert error.headers["x-ratelimit-reset-requests"].endswith("s")
    assert "3 requests a minute" in error.message


def test_the_allowance_comes_back_bit_by_bit(make_principal):
    principal = make_principal(requests_per_minute=600)
    wait: float | None = None
    while not wait:
        try:
            admit(principal, is_model_call=True)
        except LimitExceeded as error:
            wait = error.retry_after_seconds
    assert wait <= 0.1
    time.sleep(wait + 0.01)
    admit(principal, is_model_call=True)


def test_refused_requests_are_not_counted(make_principal):
    principal = make_principal(requests_per_minute=2, max_concurrent=1)
    first = admit(principal, is_model_call=True)
    assert refused(principal).code == "too_many_concurrent_requests"
    assert refused(principal).code == "too_many_concurrent_requests"
    first.finish()
    admit(principal, is_model_call=True).finish()
    waits = [seconds_refused(principal) for _ in range(3)]
    assert waits == sorted(waits, reverse=True)


@pytest.mark.parametrize("allowed", [1, 7, 60])
def test_never_more_requests_pass_than_the_limit_however_many_come_at_once(make_principal, allowed):
    principal = make_principal(requests_per_minute=allowed)
    started = time.monotonic()
    passed = try_at_once(principal, threads=16, tries=20)
    refilled = int((time.monotonic() - started) * allowed / 60)
    assert allowed <= passed <= allowed + refilled


def test_never_more_run_at_once_than_the_limit(make_principal):
    principal = make_principal(max_concurrent=3)
    running, most, passed = [0], [0], [0]
    lock = threading.Lock()

    def work():
        for _ in range(25):
            try:
                admission = admit(principal, is_model_call=True)
            except LimitExceeded:
                continue
            with lock:
                passed[0] += 1
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.001)
            with lock:
                running[0] -= 1
            admission.finish()

    with ThreadPoolExecutor(12) as pool:
        for future in [pool.submit(work) for _ in range(12)]:
            future.result(30)
    assert most[0] == 3
    assert passed[0] > 3


def test_one_request_after_the_other_never_finds_its_own_slot_in_use(make_principal):
    principal = make_principal(max_concurrent=1)
    for _ in range(300):
        admit(principal, is_model_call=True).finish()


def test_the_slot_of_a_killed_process_is_free_when_its_lease_ends(make_principal, monkeypatch):
    monkeypatch.setattr("access.limits.shared.LEASE_SECONDS", 0.5)
    principal = make_principal(max_concurrent=1)
    admission = admit(principal, is_model_call=True)
    error = refused(principal)
    assert error.code == "too_many_concurrent_requests"
    assert error.headers["Retry-After"] == "1"
    time.sleep(0.6)
    admit(principal, is_model_call=True)
    del admission


def test_a_lapsed_lease_frees_its_slot_also_while_others_run(make_principal, monkeypatch):
    monkeypatch.setattr("access.limits.shared.LEASE_SECONDS", 0.6)
    principal = make_principal(max_concurrent=2)
    lost = admit(principal, is_model_call=True)
    time.sleep(0.4)
    running = admit(principal, is_model_call=True)
    assert refused(principal).code == "too_many_concurrent_requests"
    time.sleep(0.3)
    admit(principal, is_model_call=True).finish()
    del lost, running


def test_tokens_are_counted_at_the_end_and_refuse_the_next_request(make_principal):
    principal = make_principal(tokens_per_day=100)
    first = admit(principal, is_model_call=True)
    assert first.headers["x-ratelimit-remaining-tokens"] == "100"
    first.add_tokens(60)
    first.add_tokens(-5)
    first.finish()
    second = admit(principal, is_model_call=True)
    assert second.headers["x-ratelimit-remaining-tokens"] == "40"
    second.add_tokens(60)
    second.finish()
    second.add_tokens(1000)
    second.finish()
    error = refused(principal)
    assert error.code == "tokens_per_day_exceeded"
    assert error.headers["x-ratelimit-remaining-tokens"] == "0"
    to_midnight = 86_400 - time.time() % 86_400
    assert error.retry_after_seconds == pytest.approx(to_midnight, abs=2)
    assert int(run(lambda client: client.get(names(principal)[1])) or 0) == 120


def test_the_token_counter_goes_at_midnight(make_principal):
    principal = make_principal(tokens_per_day=10)
    admission = admit(principal, is_model_call=True)
    admission.add_tokens(10)
    admission.finish()
    _, tokens, _ = names(principal)
    expires_at = run(lambda client: client.expiretime(tokens))
    assert expires_at % 86_400 == 0
    assert 0 < expires_at - time.time() <= 86_400
    run(lambda client: client.expireat(tokens, int(time.time()) - 1))
    admit(principal, is_model_call=True)


def test_the_longest_wait_is_the_reason_reported(make_principal):
    principal = make_principal(requests_per_minute=1, tokens_per_day=1, max_concurrent=1)
    admission = admit(principal, is_model_call=True)
    assert refused(principal).code == "requests_per_minute_exceeded"
    admission.add_tokens(1)
    admission.finish()
    assert refused(principal).code == "tokens_per_day_exceeded"


def test_every_key_in_redis_expires_by_itself(make_principal):
    principal = make_principal(requests_per_minute=5, tokens_per_day=10, max_concurrent=2)
    admission = admit(principal, is_model_call=True)
    other = admit(principal, is_model_call=True)
    other.add_tokens(1)
    other.finish()
    ttls = [run(lambda client, name=name: client.pttl(name)) for name in names(principal)]
    assert all(ttl > 0 for ttl in ttls)
    admission.finish()


def test_refusals_are_counted_by_limit(make_principal):
    before = sample("headrace_limits_refused_total", limit="requests_per_minute")
    principal = make_principal(requests_per_minute=1)
    admit(principal, is_model_call=True)
    refused(principal)
    assert sample("headrace_limits_refused_total", limit="requests_per_minute") == before + 1


def test_the_bound_on_what_a_key_holds_in_memory_is_none_without_limits(make_principal):
    size = len(admission_module.LOCAL_LIMITER)
    admit(make_principal(), is_model_call=True).finish()
    assert len(admission_module.LOCAL_LIMITER) == size


# --- Work in the background ---------------------------------------------------------------------
def test_a_submission_takes_no_slot_and_needs_none(make_principal):
    principal = make_principal(max_concurrent=1)
    running = admit(principal, is_model_call=True)
    for _ in range(3):
        submission = admit(principal, is_model_call=True, needs_slot=False)
        submission.finish()
    # A slot that was never taken is not released either.
    assert refused(principal).code == "too_many_concurrent_requests"
    running.finish()
    unfinished = [admit(principal, is_model_call=True, needs_slot=False) for _ in range(3)]
    admit(principal, is_model_call=True).finish()
    assert len(unfinished) == 3


def test_a_submission_calls_redis_only_if_there_is_a_limit_for_it(make_principal, calls):
    admit(make_principal(max_concurrent=1), is_model_call=True, needs_slot=False).finish()
    assert calls == []
    principal = make_principal(requests_per_minute=5, tokens_per_day=5, max_concurrent=1)
    admission = admit(principal, is_model_call=True, needs_slot=False)
    admission.finish()
    assert len(calls) == 1
    assert admission.headers["x-ratelimit-remaining-requests"] == "4"
    assert admission.headers["x-ratelimit-remaining-tokens"] == "5"


def test_a_submission_counts_as_a_request(make_principal):
    principal = make_principal(requests_per_minute=1)
    admit(principal, is_model_call=True, needs_slot=False)
    with pytest.raises(LimitExceeded) as caught:
        admit(principal, is_model_call=True, needs_slot=False)
    assert caught.value.code == "requests_per_minute_exceeded"


def test_tokens_that_jobs_used_refuse_the_next_submission(make_principal):
    principal = make_principal(tokens_per_day=100)
    count_tokens(key_id=principal.key_id, tokens=60)
    count_tokens(key_id=principal.key_id, tokens=-60)
    count_tokens(key_id=principal.key_id, tokens=0)
    admission = admit(principal, is_model_call=True, needs_slot=False)
    assert admission.headers["x-ratelimit-remaining-tokens"] == "40"
    count_tokens(key_id=principal.key_id, tokens=40)
    with pytest.raises(LimitExceeded) as caught:
        admit(principal, is_model_call=True, needs_slot=False)
    assert (caught.value.status, caught.value.code) == (429, "tokens_per_day_exceeded")
    assert refused(principal).code == "tokens_per_day_exceeded"
    expires_at = run(lambda client: client.expiretime(names(principal)[1]))
    assert expires_at % 86_400 == 0


def test_counting_no_tokens_costs_no_call(make_principal, calls):
    count_tokens(key_id=make_principal().key_id, tokens=0)
    assert calls == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.012, "12ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9996, "1m0s"),
        (86.4, "1m27s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (86_399, "23h59m59s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds, text):
    assert format_duration(seconds) == text
