"""OpenAI's chat completions and models, through OpenAI's own SDK."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import httpx
import openai
import pytest

from tests.chat.echoes import USER, WEATHER, echoed
from tests.provider import USAGE, WORDS, Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, error_of, read_events


# --- Unary answers and streams ------------------------------------------------------------------
def test_the_local_model_answers_the_sdk(sdk: openai.OpenAI) -> None:
    completion = sdk.chat.completions.create(
        model="assistant", messages=USER, max_tokens=8, temperature=0
    )
    choice = completion.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert completion.object == "chat.completion"
    assert completion.id.startswith("chatcmpl-")
    assert completion.model == "assistant"
    assert abs(completion.created - time.time()) < 60
    assert completion.usage is not None
    assert 0 < completion.usage.completion_tokens <= 8
    assert completion.usage.prompt_tokens > 0


def test_the_local_models_tokens_arrive_one_by_one(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.create(
        model="assistant",
        messages=[{"role": "user", "content": "Count from one to thirty in words."}],
        max_tokens=40,
        temperature=0,
        stream=True,
    ) as chunks:
        times = [
            time.monotonic() for chunk in chunks if chunk.choices and chunk.choices[0].delta.content
        ]
    assert len(times) > 10
    # An answer that a buffer had held back would come all at once.
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert sum(gap > 0.001 for gap in gaps) > len(gaps) / 2


def test_a_slow_stream_is_as_slow_at_the_client(sdk: openai.OpenAI) -> None:
    words, times = [], []
    with sdk.chat.completions.create(
        model="provider-slow-stream", messages=USER, stream=True
    ) as chunks:
        for chunk in chunks:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                words.append(text)
                times.append(time.monotonic())
    assert tuple(words) == WORDS
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) > 0.03
    assert sum(gaps) > 0.8


def test_a_streams_chunks_are_as_openai_defines_them(http: httpx.Client) -> None:
    body = chat_body("provider-hello", stream=True)
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-request-id"]
        events = [data for _, data in read_events(response)]
    assert events.pop() == "[DONE]"
    assert len({(event["id"], event["created"]) for event in events}) == 1
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert all("usage" not in event for event in events)
    choices = [event["choices"][0] for event in events]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert [c["delta"].get("content") for c in choices[1:-1]] == ["Hello ", "there."]
    assert choices[-1]["delta"] == {}
    assert [c["finish_reason"] for c in choices] == [None, None, None, "stop"]


def test_a_stream_has_its_usage_on_request(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.create(
        model="provider-hello",
        messages=USER,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.model_dump(exclude_none=True) == USAGE


def test_usage_is_null_when_the_provider_tells_none(sdk: openai.OpenAI) -> None:
    completion = sdk.chat.completions.create(model="provider-no-usage", messages=USER)
    assert completion.usage is None
    with sdk.chat.completions.create(
        model="provider-no-usage",
        messages=USER,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        assert [chunk.usage for chunk in stream][-1] is None


def test_a_chain_with_two_model_calls_adds_their_usage(sdk: openai.OpenAI) -> None:
    completion = sdk.chat.completions.create(model="pair", messages=USER)
    assert completion.choices[0].message.content == "|".join(["".join(WORDS)] * 2)
    assert completion.usage is not None
    assert completion.usage.total_tokens == 2 * USAGE["total_tokens"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("provider-hello", "stop"),
        ("provider-cut-short", "length"),
        ("provider-filtered", "content_filter"),
    ],
)
def test_the_finish_reason_is_the_providers(sdk: openai.OpenAI, model: str, reason: str) -> None:
    completion = sdk.chat.completions.create(model=model, messages=USER)
    assert completion.choices[0].finish_reason == reason
    with sdk.chat.completions.create(model=model, messages=USER, stream=True) as stream:
        assert [chunk.choices[0].finish_reason for chunk in stream][-1] == reason


def test_an_empty_answer_is_empty_and_no_error(sdk: openai.OpenAI) -> None:
    completion = sdk.chat.completions.create(model="provider-empty", messages=USER)
    assert completion.choices[0].message.content == ""
    with sdk.chat.completions.create(model="provider-empty", messages=USER, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ""
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_of_thousands_of_chunks_loses_none(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.create(
        model="provider-many-chunks", messages=USER, stream=True
    ) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == "".join(f"{number} " for number in range(3000))


def test_a_chain_that_yields_objects_ends_with_its_last_as_json(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.create(model="growing", messages=USER, stream=True) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert json.loads(text) == {"city": "Oslo", "sunny": True}


# --- Chains that take something else than messages ----------------------------------------------
@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("echo", "Hello"),
        ("question_only", "You asked Hello"),
        ("typed", '{"line":"1 x Hello","total":1}'),
    ],
)
def test_a_chain_of_one_text_gets_the_last_user_message(
    sdk: openai.OpenAI, model: str, answer: str
) -> None:
    messages: Any = [
        {"role": "user", "content": "Before"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "I was say"},
    ]
    completion = sdk.chat.completions.create(model=model, messages=messages)
    assert completion.choices[0].message.content == answer


def test_a_chain_that_is_a_bare_model_gets_the_list_of_messages(sdk: openai.OpenAI) -> None:
    body = echoed(sdk, "bare_model", messages=[*USER, *USER])
    assert [message["content"] for message in body["messages"]] == ["Hello", "Hello"]


@pytest.mark.parametrize("model", ["silent", "divide"])
def test_a_chain_that_takes_no_chat_is_an_error(sdk: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=model, messages=USER)
    assert caught.value.code == "not_a_chat_chain"


def test_a_chain_of_one_text_refuses_tools_and_a_request_without_user(
    sdk: openai.OpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="echo", messages=USER, tools=[WEATHER])
    assert caught.value.param == "tools"
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="echo", messages=[{"role": "system", "content": "x"}])
    assert caught.value.param == "messages"


# --- Models -------------------------------------------------------------------------------------
def test_models_are_the_enabled_chains(sdk: openai.OpenAI) -> None:
    models = {model.id: model for model in sdk.models.list()}
    assert {"assistant", "summarize", "provider-hello"} <= set(models)
    assert "disabled" not in models
    assert models["assistant"].object == "model"
    assert models["assistant"].owned_by == "headrace"
    assert 0 < models["assistant"].created <= time.time()


def test_one_model_can_be_read(sdk: openai.OpenAI) -> None:
    assert sdk.models.retrieve("assistant").id == "assistant"
    for name in ("disabled", "no-such-model"):
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.models.retrieve(name)
        assert caught.value.code == "model_not_found"


# --- Errors as the SDK sees them ----------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "error", "code"),
    [
        ("no-such-model", openai.NotFoundError, "model_not_found"),
        ("disabled", openai.NotFoundError, "model_not_found"),
        ("provider-too-long", openai.BadRequestError, "context_length_exceeded"),
        ("provider-fail-500", openai.InternalServerError, "provider_error"),
        ("provider-fail-429", openai.InternalServerError, "provider_overloaded"),
        ("impatient", openai.InternalServerError, "chain_timeout"),
        ("broken", openai.InternalServerError, "chain_error"),
    ],
)
def test_the_sdk_raises_the_class_of_each_error(
    sdk: openai.OpenAI, model: str, error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as caught:
        sdk.chat.completions.create(model=model, messages=USER)
    assert caught.value.code == code
    assert caught.value.request_id


def test_a_wrong_key_is_an_authentication_error(stack: EmbeddedStack, chains: None) -> None:
    client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key="hr_wrong", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError) as caught:
        client.models.list()
    assert caught.value.code == "invalid_api_key"


def test_the_sdk_does_not_try_a_broken_chain_again(
    sdk: openai.OpenAI, provider: Provider, marker: str
) -> None:
    messages: Any = [{"role": "user", "content": marker}]
    with pytest.raises(openai.InternalServerError) as caught:
        sdk.with_options(max_retries=2).chat.completions.create(
            model="provider-leaky-401", messages=messages
        )
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(provider.calls_of(marker)) == 1


def test_the_sdk_retries_after_the_time_of_retry_after(
    sdk: openai.OpenAI, provider: Provider, marker: str
) -> None:
    messages: Any = [{"role": "user", "content": marker}]
    started = time.monotonic()
    with pytest.raises(openai.InternalServerError):
        sdk.with_options(max_retries=1).chat.completions.create(
            model="provider-fail-429", messages=messages
        )
    # Retry-After is a second; three attempts at the provider each time.
    assert time.monotonic() - started > 1
    assert len(provider.calls_of(marker)) == 6


def test_an_error_inside_a_stream_is_raised_by_the_sdk(sdk: openai.OpenAI) -> None:
    words = []
    with (
        sdk.chat.completions.create(
            model="provider-error-mid-stream", messages=USER, stream=True
        ) as stream,
        pytest.raises(openai.APIError) as caught,
    ):
        words.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert caught.value.code == "provider_error"


def test_the_sdks_accept_header_for_streams_hides_no_error(http: httpx.Client) -> None:
    response = http.post(
        "/v1/chat/completions",
        json=chat_body("no-such-model", stream=True),
        headers={"Accept": "text/event-stream"},
    )
    error_of(response, 404, "model_not_found")
