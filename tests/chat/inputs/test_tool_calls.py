"""Tool calls whose text is never rewritten, and of which no half is mended."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks

from chat.inputs.tool_calls import (
    ToolCallPieces,
    complete_message,
    langchain_calls,
    openai_call,
    openai_calls,
)

TEXTS = [
    '{"id": 98765432109876543210987}',
    '{"a": 1.10}',
    '{"a": 1E5}',
    '{"a":1,"a":2}',
    '{"note": "buy mi',
    '{"b":',
    "[1]",
    "",
    '{"ü": "\\ud83c"}',
]


def piece(
    args: str | None, *, call_id: str | None = None, name: str | None = None, index: int | None = 0
) -> AIMessageChunk:
    """Return a chunk with a piece of one call."""
    chunk = {"type": "tool_call_chunk", "name": name, "args": args, "id": call_id, "index": index}
    return AIMessageChunk("", tool_call_chunks=[chunk])  # type: ignore[list-item]


def joined(*chunks: AIMessageChunk) -> AIMessageChunk:
    """Return the chunks of a stream as one, as a job joins them."""
    pieces = ToolCallPieces()
    for chunk in chunks:
        chunk.tool_call_chunks = pieces.read(chunk)
    first, *others = chunks
    return add_ai_message_chunks(first, *others)


def found(message: AIMessage) -> list[tuple[str, str]]:
    """Return the id and the arguments of each call."""
    return [(call["id"], call["function"]["arguments"]) for call in openai_calls(message)]


@pytest.mark.parametrize("text", TEXTS)
def test_a_calls_text_is_as_the_model_wrote_it(text: str) -> None:
    calls = [openai_call("c1", "f", '{"x": 1}'), openai_call("c2", "f", text)]
    expected = [("c1", '{"x": 1}'), ("c2", text)]
    assert found(AIMessage("", **langchain_calls(calls))) == expected
    assert found(AIMessage("", **langchain_calls(calls[::-1]))) == expected[::-1]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_streamed_calls_text_is_its_pieces(text: str, step: int) -> None:
    chunks = [piece("", call_id="c1", name="f")]
    chunks += [piece(text[start : start + step]) for start in range(0, len(text), step)]
    stream = joined(*chunks)
    assert found(stream) == [("c1", text)]
    # As a job stores it for its next attempt, which reads it as one chunk.
    message = complete_message(stream)
    assert found(message) == [("c1", text)]
    assert found(AIMessageChunk(**message.model_dump(exclude={"type"}))) == [("c1", text)]
    is_half = text in ('{"note": "buy mi', '{"b":', "[1]")
    assert len(message.invalid_tool_calls) == int(is_half)
    assert len(message.tool_calls) == int(not is_half)


def test_a_call_that_a_chain_has_changed_is_the_chains() -> None:
    message = AIMessage("", **langchain_calls([openai_call("c1", "f", '{"x": 1.0}')]))
    message.tool_calls[0]["args"] = {"x": 2}
    assert found(message) == [("c1", '{"x":2}')]
    message.tool_calls = []
    assert found(message) == []


@pytest.mark.parametrize("index", [0, None])
def test_two_calls_of_one_index_stay_two(index: int | None) -> None:
    stream = joined(
        piece('{"q":', call_id="c1", name="f", index=index),
        piece('"one"}', index=index),
        piece('{"q":', call_id="c2", name="f", index=index),
        piece('"two"}', index=index),
    )
    assert found(stream) == [("c1", '{"q":"one"}'), ("c2", '{"q":"two"}')]
    assert [chunk["index"] for chunk in stream.tool_call_chunks] == [0, 1]


def test_an_id_that_is_repeated_is_one_call() -> None:
    stream = joined(piece('{"q":', call_id="c1", name="f"), piece('"one"}', call_id="c1", name="f"))
    assert found(stream) == [("c1", '{"q":"one"}')]
    assert stream.tool_call_chunks[0]["name"] == "f"


def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    ids = [found(joined(piece("{}", name="f"))) for _ in range(2)]
    assert ids[0][0][0].startswith("call_")
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    "raw",
    [
        5,
        "x",
        [5],
        [{}],
        [{"id": "c1"}],
        [{"id": 5, "function": {"arguments": "{}"}}],
        [{"id": "c1", "function": {"arguments": {}}}],
    ],
)
def test_raw_calls_of_another_shape_are_left_out(raw: Any) -> None:
    call: Any = {"name": "f", "args": {"x": 1}, "id": "c1"}
    message = AIMessage("", tool_calls=[call], additional_kwargs={"tool_calls": raw})
    assert found(message) == [("c1", '{"x":1}')]
