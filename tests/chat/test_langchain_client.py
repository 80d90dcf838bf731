"""LangChain's own client for OpenAI, pointed at Headrace."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.provider import USAGE, WORDS, Provider
from tests.stack_plugin import EmbeddedStack


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sun in {city}"


class Answer(BaseModel):
    """The fields of a structured answer."""

    city: str


def chat(stack: EmbeddedStack, model: str, **more: Any) -> ChatOpenAI:
    """Return LangChain's model for one of the stack's chains."""
    return ChatOpenAI(
        model=model,
        base_url=f"{stack.url}/v1",
        api_key=stack.demo_key,  # type: ignore[arg-type]
        max_retries=0,
        **more,
    )


def test_invoke_returns_the_local_models_words(stack: EmbeddedStack, chains: None) -> None:
    answer = chat(stack, "assistant", max_tokens=8).invoke("Hello")
    assert isinstance(answer, AIMessage)
    assert answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] <= 8


def test_stream_yields_each_chunk_and_the_usage(stack: EmbeddedStack, chains: None) -> None:
    chunks = list(chat(stack, "provider-slow-stream", stream_usage=True).stream("Hello"))
    assert [chunk.text for chunk in chunks if chunk.text] == list(WORDS)
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == USAGE["total_tokens"]


def test_messages_of_every_kind_reach_the_provider(stack: EmbeddedStack, chains: None) -> None:
    answer = chat(stack, "provider-echo", temperature=0.5).invoke(
        [
            SystemMessage("Be brief."),
            HumanMessage("Weather?"),
            AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Oslo"}, "id": "c1"}]),
            ToolMessage("sun", tool_call_id="c1"),
        ]
    )
    sent = json.loads(answer.text)
    assert [message["role"] for message in sent["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert sent["messages"][2]["tool_calls"][0]["function"]["name"] == "weather"
    assert sent["temperature"] == 0.5


@pytest.mark.parametrize("is_stream", [False, True])
def test_bound_tools_are_called_and_answered(
    stack: EmbeddedStack, chains: None, is_stream: bool
) -> None:
    model = chat(stack, "provider-tool-call", streaming=is_stream).bind_tools([weather])
    first = model.invoke("Weather in Oslo and Rome?")
    assert [call["args"] for call in first.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    results = [weather.invoke(call) for call in first.tool_calls]
    last = model.invoke([HumanMessage("Weather in Oslo and Rome?"), first, *results])
    assert last.text == "It is sunny."


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_structured_output_is_requested_and_parsed(
    stack: EmbeddedStack, chains: None, provider: Provider, marker: str, method: Any
) -> None:
    model = chat(stack, "provider-city").with_structured_output(Answer, method=method)
    assert model.invoke(marker) == Answer(city="Oslo")
    asked = provider.calls_of(marker)[0].body["response_format"]
    assert asked["type"] == {"json_schema": "json_schema", "json_mode": "json_object"}[method]


def test_a_failing_provider_is_an_error_and_no_answer(stack: EmbeddedStack, chains: None) -> None:
    with pytest.raises(openai.InternalServerError):
        chat(stack, "provider-fail-500").invoke("Hello")
    with pytest.raises(openai.APIError):
        list(chat(stack, "provider-reset-mid-stream").stream("Hello"))
