"""Failures of a model provider: what a client sees, and what it never sees."""

from __future__ import annotations

import itertools
import time
from typing import Any

import httpx
import openai
import pytest

from tests import chains as runnables
from tests.provider import SECRET, Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, error_of, logs, read_events
from tests.support.waiting import slack


def ask(http: httpx.Client, model: str, text: str = "Hello", **more: Any) -> httpx.Response:
    """Post a completion."""
    return http.post("/v1/chat/completions", json=chat_body(model, text, **more))


def models_asked(provider: Provider, marker: str) -> list[str]:
    """Return the models that were called, in order."""
    return [call.body["model"] for call in provider.calls_of(marker)]


# --- Retries and fallbacks ----------------------------------------------------------------------
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("model", ["fail-429-twice", "fail-500-twice"])
def test_a_passing_fault_is_tried_again_until_it_works(
    http: httpx.Client, provider: Provider, marker: str, model: str, is_stream: bool
) -> None:
    response = ask(http, f"provider-{model}", marker, stream=is_stream)
    assert response.status_code == 200
    assert "there." in response.text
    assert len(provider.calls_of(marker)) == 3


def test_no_retry_comes_before_the_provider_wants_it(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    ask(http, "provider-fail-429-twice", marker)
    times = [call.started_at for call in provider.calls_of(marker)]
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.05


@pytest.mark.parametrize("is_stream", [False, True])
def test_fallback_models_are_called_in_their_order(
    http: httpx.Client, provider: Provider, marker: str, is_stream: bool
) -> None:
    response = ask(http, "with-fallbacks", marker, stream=is_stream)
    assert response.status_code == 200
    assert "there." in response.text
    assert models_asked(provider, marker) == ["fail-500"] * 3 + ["fail-429"] * 3 + ["hello"]


def test_a_wrong_key_is_not_tried_again_but_the_fallback_is(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    assert ask(http, "wrong-key-first", marker).status_code == 200
    assert models_asked(provider, marker) == ["leaky-401", "hello"]


def test_a_request_that_is_at_fault_goes_to_no_fallback(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    error_of(ask(http, "request-at-fault", marker), 400, "context_length_exceeded")
    assert models_asked(provider, marker) == ["too-long"]


def test_a_stream_that_has_begun_goes_to_no_fallback(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    response = ask(http, "breaks-midway", marker, stream=True)
    assert "three" in response.text
    assert models_asked(provider, marker) == ["reset-mid-stream"]


def test_a_quota_that_is_used_up_leaves_the_fallback_to_answer(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    assert ask(http, "no-quota-first", marker).status_code == 200
    assert models_asked(provider, marker) == ["quota-429", "hello"]


# --- The status of each fault -------------------------------------------------------------------
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "code", "attempts"),
    [
        ("provider-fail-429", 503, "provider_overloaded", 3),
        ("provider-fail-429-for-long", 503, "provider_overloaded", 1),
        ("provider-fail-500", 502, "provider_error", 3),
        ("provider-fail-503", 502, "provider_error", 3),
        ("provider-reset-at-once", 502, "provider_unreachable", 3),
        ("unreachable", 502, "provider_unreachable", 0),
        ("provider-leaky-401", 502, "provider_misconfigured", 1),
        ("provider-leaky-400", 400, "provider_rejected_request", 1),
        ("provider-too-long", 400, "context_length_exceeded", 1),
        ("provider-bad-json", 502, "provider_bad_answer", 1),
        ("provider-no-choices", 502, "provider_bad_answer", 1),
        ("provider-html", 502, "provider_bad_answer", 1),
        ("provider-quota-429", 502, "provider_misconfigured", 1),
        ("provider-overloaded-529", 503, "provider_overloaded", 3),
        ("provider-context-vllm", 400, "context_length_exceeded", 1),
        ("provider-context-413", 400, "context_length_exceeded", 1),
        ("provider-filter-azure", 400, "content_filter", 1),
        ("all-fail", 502, "provider_error", 6),
    ],
)
def test_a_failing_provider_is_a_real_status_also_for_a_stream(
    *,
    http: httpx.Client,
    provider: Provider,
    marker: str,
    model: str,
    status: int,
    code: str,
    attempts: int,
    is_stream: bool,
) -> None:
    error = error_of(ask(http, model, marker, stream=is_stream), status, code)
    assert SECRET not in str(error)
    # A reused connection that ends without a byte of an answer is replaced by a new one, once.
    replaced = {0, 1} if model == "provider-reset-at-once" else {0}
    assert len(provider.calls_of(marker)) - attempts in replaced


def test_a_busy_providers_wish_reaches_the_client(http: httpx.Client) -> None:
    assert ask(http, "provider-fail-429-for-long").headers["retry-after"] == "17"
    assert ask(http, "provider-fail-429").headers["retry-after"] == "1"


def test_a_silent_provider_is_a_504_when_the_chains_time_is_up(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    started = time.monotonic()
    error_of(ask(http, "impatient", marker), 504, "chain_timeout")
    assert 2.0 <= time.monotonic() - started < slack(3.5)
    call = provider.calls_of(marker)[0]
    assert provider.seconds_until_hung_up(call, since=started) < 3.5


def test_a_stream_that_falls_silent_ends_when_the_chains_time_is_up(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    started = time.monotonic()
    response = ask(http, "impatient-stream", marker, stream=True)
    assert 2.0 <= time.monotonic() - started < slack(3.5)
    events = [data for _, data in read_events(response)]
    assert events[-1]["error"]["code"] == "chain_timeout"
    call = provider.calls_of(marker)[0]
    assert provider.seconds_until_hung_up(call, since=started) < 3.5


def test_a_chain_that_blocks_in_its_own_code_ends_in_time_too(http: httpx.Client) -> None:
    started = time.monotonic()
    error_of(ask(http, "blocks-briefly"), 504, "chain_timeout")
    assert time.monotonic() - started < slack(2.5)


def test_an_error_inside_a_good_status_is_retried_as_its_own_status(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    error_of(ask(http, "provider-busy-in-200", marker), 503, "provider_overloaded")
    assert len(provider.calls_of(marker)) == 3


def test_half_a_stream_is_never_a_complete_answer(http: httpx.Client) -> None:
    for model in ("provider-ends-mid-stream", "provider-reason-error"):
        events = [data for _, data in read_events(ask(http, model, stream=True))]
        assert "error" in events[-1], model
        assert "[DONE]" not in events


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("provider-reset-mid-stream", "provider_unreachable"),
        ("provider-cut-mid-stream", "provider_unreachable"),
        ("provider-error-mid-stream", "provider_error"),
    ],
)
def test_a_fault_midway_is_an_error_event_and_never_done(
    http: httpx.Client, sdk: openai.OpenAI, model: str, code: str
) -> None:
    with http.stream("POST", "/v1/chat/completions", json=chat_body(model, stream=True)) as r:
        assert r.status_code == 200
        events = [data for _, data in read_events(r)]
    assert "[DONE]" not in events
    assert events[-1]["error"]["code"] == code
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1])
    assert text == "One two three "
    assert all(event["choices"][0]["finish_reason"] is None for event in events[:-1])
    with (
        sdk.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hello"}], stream=True
        ) as stream,
        pytest.raises(openai.APIError),
    ):
        list(stream)


# --- What must not be seen ----------------------------------------------------------------------
def test_a_providers_error_text_reaches_neither_clients_nor_logs(
    http: httpx.Client, stack: EmbeddedStack
) -> None:
    for name in (
        "leaky-401",
        "leaky-400",
        "fail-500",
        "fail-429",
        "too-long",
        "bad-json",
        "no-choices",
        "error-mid-stream",
    ):
        for is_stream in (False, True):
            response = ask(http, f"provider-{name}", stream=is_stream)
            assert SECRET not in response.text + str(response.headers)
    conversation = http.post("/v1/conversations", json={"chain": "provider-leaky-401"}).json()
    response = http.post(f"/v1/conversations/{conversation['id']}/messages", json={"content": "x"})
    assert SECRET not in response.text
    response = http.post("/chains/provider-leaky-401/invoke", json={"input": "x"})
    assert SECRET not in response.text
    written = logs(stack)
    assert "ProviderResponseError 401" in written
    assert SECRET not in written


def test_a_prompt_is_not_logged_when_its_answer_fails(
    http: httpx.Client, stack: EmbeddedStack, marker: str
) -> None:
    for name in ("fail-500", "bad-json", "error-mid-stream", "leaky-400"):
        ask(http, f"provider-{name}", marker)
    assert marker not in logs(stack)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_broken_chain_is_a_500_without_its_text(http: httpx.Client, is_stream: bool) -> None:
    response = ask(http, "broken", stream=is_stream)
    error_of(response, 500, "chain_error")
    assert runnables.SECRET not in response.text
    assert response.headers["x-should-retry"] == "false"


def test_a_chain_that_breaks_midway_is_an_error_event_without_its_text(http: httpx.Client) -> None:
    response = ask(http, "async_fails_later", stream=True)
    events = [data for _, data in read_events(response)]
    assert events[-1]["error"]["code"] == "chain_error"
    assert runnables.SECRET not in response.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stream": True}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/responses", {"input": "x", "background": True}),
        ("/v1/jobs", {"chain": "cannot_be_built", "input": "x"}),
        ("/chains/cannot_be_built/invoke", {"input": "x"}),
        ("/chains/cannot_be_built/batch", {"inputs": ["x"]}),
        ("/chains/cannot_be_built/stream", {"input": "x"}),
        ("/v1/conversations/{}/messages", {"content": "x"}),
    ],
)
def test_a_chain_that_cannot_be_built_is_unavailable_without_the_reason(
    http: httpx.Client, stack: EmbeddedStack, path: str, body: dict[str, Any]
) -> None:
    if path.startswith("/v1/conversations"):
        made = http.post("/v1/conversations", json={"chain": "cannot_be_built"}).json()
        path = path.format(made["id"])
    elif not path.startswith("/chains") and "chain" not in body:
        body = {"model": "cannot_be_built", **body}
    response = http.post(path, json=body)
    error_of(response, 503, "chain_unavailable")
    assert "cannot_be_built" in response.text
    assert "template" not in response.text
    assert response.headers["x-should-retry"] == "false"
    assert "no template for cannot_be_built" in logs(stack)
