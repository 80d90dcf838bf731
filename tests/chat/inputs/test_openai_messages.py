"""Between OpenAI's messages and LangChain's, and answers in OpenAI's shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic import BaseModel

from chat.inputs.completion_request import ChatCompletionRequest
from chat.inputs.openai_messages import (
    answer_text,
    answer_tool_calls,
    delta_tool_calls,
    finish_reason,
    model_options,
    to_langchain,
)
from config.api.validation import parse


class City(BaseModel):
    """A parsed answer."""

    name: str


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
        ({"role": "user", "content": [{"type": "text", "text": "a"}] * 2}, HumanMessage("aa")),
        ({"role": "assistant", "content": "a"}, AIMessage("a")),
        ({"role": "assistant", "content": None}, AIMessage("")),
        ({"role": "assistant"}, AIMessage("")),
        ({"role": "tool", "content": "a", "tool_call_id": "c"}, ToolMessage("a", tool_call_id="c")),
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


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("plain", "plain"),
        (AIMessage("hi"), "hi"),
        (AIMessage([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab"),
        (AIMessage([{"type": "reasoning", "reasoning": "hm"}, "b"]), "b"),
        ({"a": 1}, '{"a":1}'),
        ([1, 2], "[1,2]"),
        (None, "null"),
        (5, "5"),
        (City(name="Oslo"), '{"name":"Oslo"}'),
        ([City(name="Oslo")], '[{"name":"Oslo"}]'),
    ],
)
def test_every_output_has_a_text(output: Any, text: str) -> None:
    assert answer_text(output) == text


def test_tool_calls_of_an_answer_have_openais_shape() -> None:
    output = AIMessage(
        "",
        tool_calls=[
            {"name": "f", "args": {"ü": [1]}, "id": "c1"},
            {"name": "g", "args": {}, "id": None},
        ],
    )
    first, second = answer_tool_calls(output)
    assert first["id"] == "c1"
    assert first["type"] == "function"
    assert json.loads(first["function"]["arguments"]) == {"ü": [1]}
    assert second["id"] == "call_1"
    assert answer_tool_calls("text") == []


def test_pieces_of_tool_calls_have_their_index() -> None:
    def chunk(*pieces: dict[str, Any]) -> AIMessageChunk:
        calls: list[Any] = [{"type": "tool_call_chunk", **piece} for piece in pieces]
        return AIMessageChunk(content="", tool_call_chunks=calls)

    first = chunk({"name": "f", "args": "", "id": "c1", "index": 1})
    more = chunk({"name": None, "args": '{"a', "id": None, "index": 1})
    unnumbered = chunk({"name": "g", "args": None, "id": "c2", "index": None})
    assert delta_tool_calls(first) == [
        {"index": 1, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    ]
    assert delta_tool_calls(more) == [{"index": 1, "function": {"arguments": '{"a'}}]
    assert delta_tool_calls(unnumbered)[0]["index"] == 0


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"finish_reason": "stop"}, "stop"),
        ({"finish_reason": "length"}, "length"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"stop_reason": "tool_use"}, "tool_calls"),
        ({"finish_reason": "SAFETY"}, "content_filter"),
        ({"finish_reason": "something new"}, "stop"),
        ({"finish_reason": 5}, None),
        ({}, None),
    ],
)
def test_every_providers_reason_is_one_of_openais(metadata: Any, reason: str | None) -> None:
    assert finish_reason(AIMessage("x", response_metadata=metadata)) == reason


@given(text=st.text())
def test_text_passes_through_as_it_is(text: str) -> None:
    message = to_langchain(request({"role": "user", "content": text}).messages[0])
    assert message.content == text
    assert answer_text(AIMessage(text)) == text
