"""OpenAI's chat completions and models, through OpenAI's own SDK."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import httpx
import openai
import pytest

from tests.calls import chat_body, error_of, read_events
from tests.provider import USAGE, WORDS, Provider
from tests.stack_plugin import EmbeddedStack

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
USER: Any = [{"role": "user", "content": "Hello"}]


def echoed(sdk: openai.OpenAI, model: str = "provider-echo", **request: Any) -> dict[str, Any]:
    """Return what reached the provider."""
    request.setdefault("messages", USER)
    completion = sdk.chat.completions.create(model=model, **request)
    body: dict[str, Any] = json.loads(completion.choices[0].message.content or "")
    return body


# --- Whole answers and streams ------------------------------------------------------------------
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


def test_a_stream_tells_its_usage_when_asked(sdk: openai.OpenAI) -> None:
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
def test_a_chain_that_takes_no_chat_says_so(sdk: openai.OpenAI, model: str) -> None:
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


# --- Parameters ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 1.5}, {"temperature": 1.5}),
        ({"top_p": 0.1}, {"top_p": 0.1}),
        ({"seed": 42}, {"seed": 42}),
        ({"seed": 0}, {"seed": 0}),
        ({"stop": "END"}, {"stop": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"frequency_penalty": -1}, {"frequency_penalty": -1}),
        ({"presence_penalty": 1}, {"presence_penalty": 1}),
        ({"user": "u-1"}, {"user": "u-1"}),
        (
            {"response_format": {"type": "json_object"}},
            {"response_format": {"type": "json_object"}},
        ),
        ({"n": 1}, {}),
    ],
)
def test_what_a_client_asks_of_the_model_reaches_the_provider(
    sdk: openai.OpenAI, given: dict[str, Any], arrives: dict[str, Any]
) -> None:
    body = echoed(sdk, **given)
    assert {name: body.get(name) for name in arrives} == arrives


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_token_limit_reaches_the_provider_by_either_name(sdk: openai.OpenAI, name: str) -> None:
    body = echoed(sdk, **{name: 5})
    assert 5 in (body.get("max_tokens"), body.get("max_completion_tokens"))


def test_a_request_without_parameters_sends_none(sdk: openai.OpenAI) -> None:
    body = echoed(sdk)
    assert body["model"] == "echo"
    unasked = {"temperature", "top_p", "seed", "stop", "tools", "max_tokens", "user"}
    assert not unasked & {name for name, value in body.items() if value is not None}


def test_the_chains_parameters_hold_until_a_client_says_otherwise(sdk: openai.OpenAI) -> None:
    body = echoed(sdk, "prompted")
    assert (body["temperature"], body["top_p"]) == (0.25, 0.5)
    assert 77 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    body = echoed(sdk, "prompted", temperature=0, max_tokens=3)
    assert (body["temperature"], body["top_p"]) == (0, 0.5)
    assert {body.get("max_tokens"), body.get("max_completion_tokens")} <= {3, None}


def test_the_chains_prompt_comes_before_the_clients_own(sdk: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "developer", "content": "Client's rule."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}],
        },
    ]
    body = echoed(sdk, "prompted", messages=messages)
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("system", "You are the chain's own prompt."),
        ("system", "Client's rule."),
        ("user", "Hello"),
    ]


def test_a_streams_parameters_reach_the_provider_too(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.create(
        model="provider-echo", messages=USER, stream=True, seed=7, stop=["x"], max_tokens=9
    ) as stream:
        body = json.loads("".join(chunk.choices[0].delta.content or "" for chunk in stream))
    assert (body["seed"], body["stop"]) == (7, ["x"])
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"n": 2}, "n"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"modalities": ["text"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"store": True}, "store"),
        ({"service_tier": "auto"}, "service_tier"),
        ({"surprise": None}, "surprise"),
        ({"stream_options": {"include_usage": True}}, None),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "include_obfuscation"),
        ({"tool_choice": "auto"}, None),
        ({"max_tokens": 1, "max_completion_tokens": 1}, None),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_is_unsupported_or_out_of_range_is_refused_by_name(
    http: httpx.Client, provider: Provider, marker: str, extra: dict[str, Any], param: str | None
) -> None:
    response = http.post("/v1/chat/completions", json=chat_body("provider-echo", marker, **extra))
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    if param is not None:
        assert param in error["param"]
        assert param in error["message"]
    assert provider.calls_of(marker) == []


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "text", "text": "x", "cache_control": {}},
    ],
)
def test_parts_that_are_no_text_are_refused(http: httpx.Client, part: dict[str, Any]) -> None:
    body = {"model": "provider-echo", "messages": [{"role": "user", "content": [part]}]}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("messages.0.")


@pytest.mark.parametrize(
    ("model", "reason"), [("provider-cut-short", "length"), ("provider-filtered", "content_filter")]
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_an_asked_for_format_that_was_cut_short_is_still_an_answer(
    http: httpx.Client, model: str, reason: str, is_stream: bool
) -> None:
    body = chat_body(model, response_format={"type": "json_object"}, stream=is_stream)
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200
    assert "error" not in response.text
    assert f'"finish_reason":"{reason}"' in response.text


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_format_and_tools_may_be_asked_for_together(
    http: httpx.Client, provider: Provider, marker: str, is_stream: bool
) -> None:
    body = chat_body(
        "provider-city",
        marker,
        response_format={"type": "json_object"},
        tools=[WEATHER],
        stream=is_stream,
    )
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    assert "error" not in response.text
    assert provider.calls_of(marker)[0].body["tools"] == [WEATHER]


# --- Tools --------------------------------------------------------------------------------------
def test_tools_reach_the_provider_as_they_came(sdk: openai.OpenAI) -> None:
    body = echoed(
        sdk,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
    )
    assert body["tools"] == [WEATHER]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["parallel_tool_calls"] is False
    for choice in ("none", "auto", "required"):
        assert echoed(sdk, tools=[WEATHER], tool_choice=choice)["tool_choice"] == choice


def test_a_whole_round_of_tools_works_with_the_sdks_own_objects(sdk: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Weather in Oslo and Rome?"}]
    completion = sdk.chat.completions.create(
        model="provider-tool-call", messages=messages, tools=[WEATHER]
    )
    message = completion.choices[0].message
    assert completion.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert message.tool_calls is not None
    found = [(call.id, json.loads(call.function.arguments)["city"]) for call in message.tool_calls]  # type: ignore[union-attr]
    assert found == [("call_Oslo", "Oslo"), ("call_Rome", "Rome")]
    # The answer's message goes back just as the SDK holds it.
    messages.append(message)
    messages += [{"role": "tool", "tool_call_id": name, "content": "sun"} for name, _ in found]
    completion = sdk.chat.completions.create(
        model="provider-tool-call", messages=messages, tools=[WEATHER]
    )
    assert completion.choices[0].message.content == "It is sunny."


def test_tool_calls_and_results_in_the_history_reach_the_provider(sdk: openai.OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    broken = {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{no"}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call, broken]},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": "what?"},
    ]
    sent = echoed(sdk, messages=messages)["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool"]
    assert [(c["id"], c["function"]["arguments"]) for c in sent[1]["tool_calls"]] == [
        ("c1", "{}"),
        ("c2", "{no"),
    ]
    assert [m["tool_call_id"] for m in sent[2:]] == ["c1", "c2"]


def test_streamed_tool_calls_join_to_whole_ones(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.create(
        model="provider-tool-call", messages=USER, tools=[WEATHER], stream=True
    ) as stream:
        chunks = list(stream)
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    assert len(pieces) > 4
    joined: dict[int, str] = {}
    for piece in pieces:
        assert piece.function is not None
        joined[piece.index] = joined.get(piece.index, "") + (piece.function.arguments or "")
    assert [json.loads(joined[index])["city"] for index in (0, 1)] == ["Oslo", "Rome"]
    assert [piece.id for piece in pieces if piece.id] == ["call_Oslo", "call_Rome"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_sdks_own_accumulator_reads_a_stream_of_tool_calls(sdk: openai.OpenAI) -> None:
    strict = json.loads(json.dumps(WEATHER))
    strict["function"] |= {"strict": True}
    strict["function"]["parameters"] |= {"additionalProperties": False}
    with sdk.chat.completions.stream(
        model="provider-tool-call", messages=USER, tools=[strict]
    ) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [call.function.parsed_arguments for call in calls] == [
        {"city": "Oslo"},
        {"city": "Rome"},
    ]


def test_an_answers_message_can_be_sent_back_as_history(sdk: openai.OpenAI) -> None:
    message = sdk.chat.completions.create(model="provider-hello", messages=USER).choices[0].message
    for again in (message, message.model_dump()):
        sent = echoed(sdk, messages=[*USER, again, *USER])["messages"]
        assert [(m["role"], m["content"]) for m in sent] == [
            ("user", "Hello"),
            ("assistant", "Hello there."),
            ("user", "Hello"),
        ]


# --- Models -------------------------------------------------------------------------------------
def test_models_are_the_enabled_chains(sdk: openai.OpenAI) -> None:
    models = {model.id: model for model in sdk.models.list()}
    assert {"assistant", "summarize", "provider-hello"} <= set(models)
    assert "disabled" not in models
    assert models["assistant"].object == "model"
    assert models["assistant"].owned_by == "headrace"
    assert 0 < models["assistant"].created <= time.time()


def test_one_model_can_be_asked_for(sdk: openai.OpenAI) -> None:
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


def test_the_sdk_comes_back_when_it_is_told_to(
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
