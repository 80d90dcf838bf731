"""The model options of a completion: parameters, formats and tools."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.chat.echoes import USER, WEATHER, echoed
from tests.provider import Provider
from tests.support.calls import chat_body


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
        ({"tool_choice": "auto", "parallel_tool_calls": True}, {"tool_choice": None}),
        ({"max_completion_tokens": 100.0, "extra_body": {"max_tokens": 100}}, {}),
        ({"response_format": {"type": "text"}}, {"response_format": None}),
    ],
)
def test_what_a_client_asks_of_the_model_reaches_the_provider(
    sdk: openai.OpenAI, given: dict[str, Any], arrives: dict[str, Any]
) -> None:
    body = echoed(sdk, **given)
    assert {name: body.get(name) for name in arrives} == arrives


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_token_limit_reaches_the_provider_by_either_name(sdk: openai.OpenAI, name: str) -> None:
    token_limit: dict[str, Any] = {name: 5}
    body = echoed(sdk, **token_limit)
    assert 5 in (body.get("max_tokens"), body.get("max_completion_tokens"))


def test_a_request_without_parameters_sends_none(sdk: openai.OpenAI) -> None:
    body = echoed(sdk)
    assert body["model"] == "echo"
    unasked = {"temperature", "top_p", "seed", "stop", "tools", "max_tokens", "user"}
    assert not unasked & {name for name, value in body.items() if value is not None}


def test_the_chains_parameters_hold_until_a_client_sets_others(sdk: openai.OpenAI) -> None:
    body = echoed(sdk, "prompted")
    assert (body["temperature"], body["top_p"]) == (0.25, 0.5)
    assert 77 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    body = echoed(sdk, "prompted", temperature=0, max_tokens=3)
    assert (body["temperature"], body["top_p"]) == (0, 0.5)
    assert {body.get("max_tokens"), body.get("max_completion_tokens")} <= {3, None}


def test_the_thinking_before_a_tool_call_goes_back_to_the_provider(sdk: openai.OpenAI) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: Any = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "9", "tool_call_id": "c"},
    ]
    assert echoed(sdk, messages=messages)["messages"][1]["reasoning_content"] == "hm"


def test_the_chains_prompt_and_the_clients_own_are_one_message(sdk: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "developer", "content": "Client's rule."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}],
        },
    ]
    body = echoed(sdk, "prompted", messages=messages)
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("system", "You are the chain's own prompt.\n\nClient's rule."),
        ("user", [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]),
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
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"store": True}, "store"),
        ({"service_tier": "fast"}, "service_tier"),
        ({"surprise": False}, "surprise"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "include_obfuscation"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
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
    http: httpx.Client, provider: Provider, marker: str, extra: dict[str, Any], param: str
) -> None:
    response = http.post("/v1/chat/completions", json=chat_body("provider-echo", marker, **extra))
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert param in error["param"]
    assert param in error["message"]
    assert provider.calls_of(marker) == []


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "text", "text": "x", "cache_control": {}},
    ],
)
def test_parts_that_change_something_unsupported_are_refused(
    http: httpx.Client, part: dict[str, Any]
) -> None:
    body = {"model": "provider-echo", "messages": [{"role": "user", "content": [part]}]}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("messages.0.")


@pytest.mark.parametrize(
    ("model", "reason"), [("provider-cut-short", "length"), ("provider-filtered", "content_filter")]
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_requested_format_that_was_cut_short_is_still_an_answer(
    http: httpx.Client, model: str, reason: str, is_stream: bool
) -> None:
    body = chat_body(model, response_format={"type": "json_object"}, stream=is_stream)
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200
    assert "error" not in response.text
    assert f'"finish_reason":"{reason}"' in response.text


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_format_and_tools_may_be_requested_together(
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


def test_a_round_of_tools_works_with_the_sdks_own_objects(sdk: openai.OpenAI) -> None:
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


def test_streamed_tool_calls_join_to_complete_ones(sdk: openai.OpenAI) -> None:
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
