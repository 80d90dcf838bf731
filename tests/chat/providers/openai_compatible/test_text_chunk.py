"""A chunk of text is what LangChain would make of it, and shares nothing with another."""

from __future__ import annotations

import pickle

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import invalid_tool_call
from langchain_core.outputs import ChatGenerationChunk

from chat.providers.openai_compatible.chunks import text_chunk


def made_by_langchain(text: str) -> ChatGenerationChunk:
    message = AIMessageChunk(content=text, response_metadata={"model_provider": "openai"})
    return ChatGenerationChunk(message=message)


@pytest.mark.parametrize("text", ["Hello", "", "\N{SNOWMAN} and\nmore"])
def test_it_is_equal_to_a_validated_one(text: str) -> None:
    ours, theirs = text_chunk(text), made_by_langchain(text)
    assert ours == theirs
    assert ours.model_dump() == theirs.model_dump()
    assert dumps(ours) == dumps(theirs)
    assert repr(ours) == repr(theirs)
    assert pickle.loads(pickle.dumps(ours)) == theirs  # noqa: S301
    assert ours.message.model_fields_set == theirs.message.model_fields_set
    assert ours.message.model_copy(deep=True) == theirs.message
    assert ours.message.text == text


def test_it_has_every_field() -> None:
    chunk = text_chunk("Hello")
    assert chunk.__dict__.keys() == type(chunk).model_fields.keys()
    assert chunk.message.__dict__.keys() == type(chunk.message).model_fields.keys()


def test_chunks_are_added_up() -> None:
    total = text_chunk("Hel") + text_chunk("lo")
    assert total == made_by_langchain("Hel") + made_by_langchain("lo")
    assert total.message.content == "Hello"


def test_what_is_changed_in_one_is_not_in_the_next() -> None:
    message = text_chunk("Hello").message
    assert isinstance(message, AIMessageChunk)
    message.additional_kwargs["x"] = 1
    message.response_metadata["x"] = 1
    message.tool_calls.append({"name": "x", "args": {}, "id": "1"})
    message.invalid_tool_calls.append(invalid_tool_call(name="x", args="", id="1", error=""))
    message.tool_call_chunks.append({"name": "x", "args": "", "id": "1", "index": 0})
    message.id = "1"
    assert text_chunk("Hello") == made_by_langchain("Hello")
