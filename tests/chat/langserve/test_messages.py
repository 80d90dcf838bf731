"""Messages from the wire: what is accepted, a provider's class can send on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from chat.inputs.decoding import decode
from chat.inputs.encoding import encode
from chat.inputs.langchain_messages import MESSAGE_CLASSES
from config.api.errors import InvalidRequest
from tests.support.examples import share

MODEL = ChatOpenAI(model="any", api_key=SecretStr("none"), use_responses_api=False)

# Every key that LangChain's classes are known to read from a message.
NAMES = [
    *("type", "text", "id", "name", "args", "function", "arguments", "index", "url", "source"),
    *("tool_calls", "function_call", "audio", "refusal", "parsed", "reasoning", "summary"),
    *("source_type", "data", "mime_type", "extras", "output_version", "model_provider"),
    *("__openai_role__", "prompt_cache_breakpoint", "input", "error", "image_url"),
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.text(max_size=3)
    | st.sampled_from(["v1", "openai", "anthropic", "{}", "{", "base64", "tool_call"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4)
CALL = {"id": st.none() | st.text(max_size=2), "name": st.text(max_size=2)}
WHOLE_CALL = st.fixed_dictionaries({**CALL, "args": OBJECT})
TEXT_CALL = st.fixed_dictionaries({**CALL, "args": st.none() | st.text(max_size=2)})
PART = st.one_of(
    st.text(max_size=2),
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=2)}),
    st.builds(lambda part: {"text": "x", **part, "type": "text"}, OBJECT),
    st.builds(lambda kind, part: {**part, "type": kind}, st.text(max_size=2), OBJECT),
    st.builds(
        lambda kind, part: {**part, "type": kind},
        st.sampled_from(["image_url", "image", "audio", "file", "tool_use", "thinking", "refusal"]),
        OBJECT,
    ),
)
MESSAGE = st.fixed_dictionaries(
    {
        "type": st.sampled_from(sorted(MESSAGE_CLASSES)),
        "content": st.text(max_size=3) | st.lists(PART, max_size=2),
        "tool_call_id": st.just("call_1"),
        "role": st.just("critic"),
    },
    optional={
        "additional_kwargs": OBJECT,
        "response_metadata": OBJECT,
        "tool_calls": st.lists(WHOLE_CALL, max_size=2) | JSON,
        "invalid_tool_calls": st.lists(TEXT_CALL, max_size=2) | JSON,
        "tool_call_chunks": st.lists(TEXT_CALL, max_size=2) | JSON,
        "usage_metadata": JSON,
        "name": st.just("n"),
        "example": JSON,
        "artifact": JSON,
        "content_blocks": JSON,
    },
)


def decode_or_refusal(value: dict[str, Any]) -> Any:
    """Return the message, or the error that refuses it."""
    try:
        return decode(value, param="input")
    except InvalidRequest as error:
        return error


@settings(max_examples=share(500), deadline=None)
@given(value=MESSAGE)
def test_an_accepted_message_can_be_sent_to_a_provider_and_to_the_client(
    value: dict[str, Any],
) -> None:
    message = decode_or_refusal(value)
    if isinstance(message, InvalidRequest):
        assert message.status == 422
        assert str(message.param).startswith("input")
        return
    assert isinstance(message, BaseMessage)
    # The only step of a call before the HTTP client.
    assert MODEL._get_request_payload([message])["messages"]  # noqa: SLF001
    assert encode(message)


@settings(max_examples=share(200), deadline=None)
@given(value=MESSAGE)
def test_decoding_changes_nothing_in_the_body(value: dict[str, Any]) -> None:
    before = repr(value)
    decode_or_refusal(value)
    assert repr(value) == before


@pytest.mark.parametrize(
    "value",
    [
        {"type": "human", "text": "hello"},
        {"type": "bot", "content": "hello"},
        {"type": ["human"], "content": "hello"},
        {"type": "Document", "title": "hello"},
        {"lc": 1, "kwargs": {}},
    ],
)
def test_an_object_that_only_resembles_a_message_is_left_alone(value: dict[str, Any]) -> None:
    assert decode(value, param="input") == value


def test_tool_calls_in_openais_older_place_are_read() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    value = {"type": "ai", "content": "", "additional_kwargs": {"tool_calls": [call]}}
    message = decode(value, param="input")
    assert isinstance(message, AIMessage)
    assert message.tool_calls == [{"name": "f", "args": {"a": 1}, "id": "1", "type": "tool_call"}]
