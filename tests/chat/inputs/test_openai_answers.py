"""A chain's output in the terms of OpenAI's answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from pydantic import BaseModel

from chat.inputs.openai_answers import (
    answer_extras,
    answer_text,
    answer_tool_calls,
    answer_words,
    delta_tool_calls,
    finish_reason,
)
from chat.inputs.tool_calls import ToolCallPieces


class City(BaseModel):
    """A parsed answer."""

    name: str


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
    # The ids of two answers differ.
    assert second["id"].startswith("call_")
    assert second["id"] != answer_tool_calls(output)[1]["id"]
    assert answer_tool_calls("text") == []


def test_pieces_of_tool_calls_have_openais_shape() -> None:
    calls = ToolCallPieces()

    def read(name: str | None, args: str | None, call_id: str | None) -> list[dict[str, Any]]:
        piece = tool_call_chunk(name=name, args=args, id=call_id, index=1)
        return delta_tool_calls(calls.read(AIMessageChunk("", tool_call_chunks=[piece])))

    assert read("f", "", "c1") == [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    ]
    assert read(None, '{"a', None) == [{"index": 0, "function": {"arguments": '{"a'}}]
    assert read(None, None, None) == [{"index": 0, "function": {"arguments": ""}}]


@pytest.mark.parametrize(
    ("message", "extras"),
    [
        (AIMessage("a"), {}),
        (AIMessage("a", additional_kwargs={"refusal": None, "annotations": []}), {}),
        (AIMessage("", additional_kwargs={"refusal": "No."}), {"refusal": "No."}),
        (AIMessage([{"type": "refusal", "refusal": "No."}]), {"refusal": "No."}),
        (
            AIMessage("a", additional_kwargs={"reasoning_content": "hm"}),
            {"reasoning_content": "hm"},
        ),
        (
            AIMessage("a", additional_kwargs={"annotations": [{"type": "url_citation"}]}),
            {"annotations": [{"type": "url_citation"}]},
        ),
        (AIMessage("a", additional_kwargs={"refusal": 5, "annotations": "x"}), {}),
        ("text", {}),
    ],
)
def test_an_answer_has_more_than_its_text(message: Any, extras: dict[str, Any]) -> None:
    assert answer_extras(message) == extras
    assert answer_words(message) == (answer_text(message) or extras.get("refusal", ""))


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
