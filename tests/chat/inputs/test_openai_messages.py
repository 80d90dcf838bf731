"""From OpenAI's messages and options to LangChain's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from chat.inputs.completion_request import ChatCompletionRequest
from chat.inputs.openai_messages import model_options, to_langchain
from config.api.errors import InvalidRequest
from config.api.validation import parse

REQUIRED = {"model", "messages"}
TEXT_PART = {"type": "text", "text": "a"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f"}}


def request(*messages: dict[str, Any], **more: Any) -> ChatCompletionRequest:
    """Return a validated request."""
    good = [{"role": "user", "content": "x"}]
    return parse(ChatCompletionRequest, {"model": "m", "messages": list(messages) or good, **more})


@pytest.mark.parametrize(
    ("given_message", "expected"),
    [
        ({"role": "system", "content": "a"}, SystemMessage("a")),
        ({"role": "developer", "content": "a"}, SystemMessage("a")),
        ({"role": "user", "content": "a", "name": "Ada"}, HumanMessage("a", name="Ada")),
        ({"role": "user", "content": [TEXT_PART]}, HumanMessage("a")),
        ({"role": "user", "content": [TEXT_PART, TEXT_PART]}, HumanMessage([TEXT_PART, TEXT_PART])),
        ({"role": "user", "content": []}, HumanMessage("")),
        ({"role": "assistant", "content": "a"}, AIMessage("a")),
        ({"role": "assistant", "content": None}, AIMessage("")),
        ({"role": "assistant"}, AIMessage("")),
        ({"role": "assistant", "content": []}, AIMessage("")),
        ({"role": "assistant", "content": None, "refusal": "No."}, AIMessage("No.")),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            AIMessage("No."),
        ),
        ({"role": "assistant", "content": "a", "refusal": "No."}, AIMessage("a")),
        (
            {"role": "assistant", "content": "a", "reasoning_content": "hm"},
            AIMessage("a", additional_kwargs={"reasoning_content": "hm"}),
        ),
        ({"role": "tool", "content": "a", "tool_call_id": "c"}, ToolMessage("a", tool_call_id="c")),
        (
            {"role": "tool", "content": [], "tool_call_id": "c", "name": ""},
            ToolMessage("", tool_call_id="c"),
        ),
        (
            {"role": "tool", "content": "a", "tool_call_id": "c", "name": "f"},
            ToolMessage("a", tool_call_id="c", name="f"),
        ),
    ],
)
def test_each_role_is_its_own_message(given_message: dict[str, Any], expected: Any) -> None:
    assert to_langchain(request(given_message).messages[0]) == expected


@pytest.mark.parametrize(
    ("arguments", "is_valid"), [('{"a": 1}', True), ("", True), ("{", False), ("[1]", False)]
)
def test_a_tool_calls_arguments_are_passed_on_also_when_they_are_no_json(
    arguments: str, is_valid: bool
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message: Any = to_langchain(
        request({"role": "assistant", "content": None, "tool_calls": [call]}).messages[0]
    )
    assert len(message.tool_calls) == int(is_valid)
    assert len(message.invalid_tool_calls) == int(not is_valid)
    if not is_valid:
        assert message.invalid_tool_calls[0]["args"] == arguments


def test_only_requested_parameters_become_options() -> None:
    assert model_options(request()) == {}
    assert model_options(request(temperature=0.0, seed=0, stop=[])) == {"temperature": 0, "seed": 0}
    assert model_options(request(max_tokens=3)) == {"max_tokens": 3}
    assert model_options(request(max_completion_tokens=3)) == {"max_tokens": 3}
    assert model_options(request(stop="x")) == {"stop": ["x"]}
    assert model_options(request(response_format={"type": "text"})) == {}


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_options_of_tools_without_tools_reach_no_provider(choice: str) -> None:
    for tools in ({}, {"tools": []}, {"tools": None}):
        assert model_options(request(tool_choice=choice, parallel_tool_calls=True, **tools)) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        '{"id": 98765432109876543210987}',
        '{"a": 1.10}',
        '{"a": 1E5}',
        '{"a":1,"a":2}',
        "{",
        "[1]",
        "",
    ],
)
def test_the_text_of_a_call_is_at_hand_as_it_came(arguments: str) -> None:
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    message: Any = to_langchain(request({"role": "assistant", "tool_calls": [call]}).messages[0])
    assert message.additional_kwargs == {"tool_calls": [call]}


def test_the_arguments_of_a_call_are_exact_to_a_chain() -> None:
    call = {**CALL, "function": {"name": "f", "arguments": '{"id": 98765432109876543210987}'}}
    message: Any = to_langchain(request({"role": "assistant", "tool_calls": [call]}).messages[0])
    assert message.tool_calls[0]["args"] == {"id": 98765432109876543210987}


# --- What changes nothing is taken, and what was given out is taken back -------------------------
@pytest.mark.parametrize(
    "more",
    [
        {"store": False},
        {"logprobs": False},
        {"top_logprobs": 0},
        {"logit_bias": {}},
        {"functions": []},
        {"function_call": "none"},
        {"metadata": {}},
        {"metadata": {"ticket": "7"}},
        {"service_tier": "auto"},
        {"service_tier": "flex"},
        {"modalities": ["text"]},
        {"verbosity": "medium"},
        {"safety_identifier": "u", "prompt_cache_key": "k", "prompt_cache_retention": "24h"},
        {"response_format": {"type": "text"}},
        {"max_tokens": None, "max_completion_tokens": None},
        {"a_field_of_tomorrow": None},
        {"a_field_of_tomorrow": []},
        {"stream": True, "stream_options": {"include_usage": None, "include_obfuscation": False}},
        {"stream_options": {"include_usage": False}},
        {"stream_options": {}},
        {"n": 1.0},
        *({name: None} for name in ChatCompletionRequest.model_fields if name not in REQUIRED),
        *({name: None} for name in ("store", "logprobs", "logit_bias", "functions", "prediction")),
    ],
)
def test_a_value_that_changes_nothing_is_taken(more: dict[str, Any]) -> None:
    assert model_options(request(**more)) == {}


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ({"max_tokens": 100.0}, {"max_tokens": 100}),
        ({"max_tokens": 7, "max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"seed": -3.0}, {"seed": -3}),
    ],
)
def test_a_number_without_a_fraction_is_an_integer(
    more: dict[str, Any], options: dict[str, Any]
) -> None:
    assert model_options(request(**more)) == options
    assert all(type(value) is int for value in options.values())


@pytest.mark.parametrize(
    "message",
    [
        {"content": "a", "refusal": None, "parsed": None},
        {"content": "a", "parsed": {"name": "Oslo"}},
        {"content": "a", "reasoning_content": None, "reasoning": None, "reasoning_details": []},
        {"content": "a", "provider_specific_fields": None},
        {"content": "a", "provider_specific_fields": {}},
        {"content": "a", "provider_specific_fields": {"refusal": None}},
        {"content": "a", "provider_specific_fields": {"reasoning_content": "b"}},
        {"content": "a", "annotations": [{"type": "url_citation"}], "audio": None},
        {"content": "a", "function_call": None, "tool_calls": None},
        {"content": "a", "tool_calls": []},
        {"content": None, "tool_calls": [{**CALL, "index": 0}]},
        {"content": None, "tool_calls": [{**CALL, "index": None, "type": None}]},
        {
            "content": None,
            "tool_calls": [
                {**CALL, "function": {"name": "f", "arguments": "{}", "parsed_arguments": {}}}
            ],
        },
        {"content": [{"type": "text", "text": "a", "cache_control": None, "annotations": []}]},
    ],
)
def test_an_answer_of_a_clients_library_is_taken_back(message: dict[str, Any]) -> None:
    read: Any = to_langchain(request({"role": "assistant", **message}).messages[0])
    assert read.content == ("" if message["content"] is None else "a")
    assert [call["id"] for call in read.tool_calls] == ["c"] * len(message.get("tool_calls") or [])


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"store": True}, "store"),
        ({"store": 0}, "store"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"verbosity": "low"}, "verbosity"),
        ({"n": 2}, "n"),
        ({"n": 1.5}, "n"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "auto"}, "tools": [TOOL]}, "tool_choice.type"),
        ({"tool_choice": "maybe", "tools": [TOOL]}, "tool_choice"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]},
            "tool_choice",
        ),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
)
def test_a_field_that_would_change_something_is_refused_by_its_name(
    more: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request(**more)
    assert caught.value.param == param
    assert param.split(".", maxsplit=1)[0] in caught.value.message


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [TEXT_PART, {"type": "image_url"}]}, "content.1.image_url"),
        (
            {"role": "user", "content": [{**TEXT_PART, "cache_control": {}}]},
            "content.0.cache_control",
        ),
        ({"role": "assistant", "content": [{"type": "text"}]}, "content.0.text"),
        ({"role": "assistant", "content": [{"type": "audio"}]}, "content.0.type"),
        ({"role": "assistant", "content": [{**TEXT_PART, "x": 1}]}, "content.0.x"),
        ({"role": "user", "content": 5}, "content"),
        ({"role": "user", "content": None}, "content"),
        ({"role": "user"}, "content"),
        ({"role": "tool", "content": "a"}, "tool_call_id"),
        ({"role": "robot", "content": "a"}, "role"),
        ({"content": "a"}, "role"),
        ({"role": "assistant", "tool_calls": [{**CALL, "x": 1}]}, "tool_calls.0.x"),
        ({"role": "assistant", "reasoning_details": [{}]}, "reasoning_details"),
        ({"role": "assistant", "audio": {"id": "a"}}, "audio"),
    ],
)
def test_a_fault_in_a_message_is_named_by_its_path_alone(message: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request({"role": "user", "content": "x"}, message)
    assert caught.value.param == f"messages.1.{param}"


@given(text=st.text())
def test_text_passes_through_as_it_is(text: str) -> None:
    message = to_langchain(request({"role": "user", "content": text}).messages[0])
    assert message.content == text
