"""LangServe's own client, RemoteRunnable, calls the chains of the running stack."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import httpx
import pytest
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import ChatPromptValueConcrete, StringPromptValue
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph
from langserve import RemoteRunnable

from tests.failing_chains import SECRET
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import manage
from tests.support.waiting import slack

LICENCE = Path("/usr/share/common-licenses/Apache-2.0")

TOOL_CALL = {"name": "weather", "args": {"city": "Oslo"}, "id": "call_1", "type": "tool_call"}
OBJECTS = [
    HumanMessage("hello", name="ann"),
    SystemMessage("be brief"),
    AIMessage("hi", tool_calls=[TOOL_CALL], response_metadata={"finish_reason": "tool_calls"}),
    AIMessage([{"type": "text", "text": "hi"}, {"type": "thinking", "thinking": "hm"}]),
    AIMessageChunk(content="hi"),
    ToolMessage("rain", tool_call_id="call_1"),
    ChatMessage(content="hello", role="critic"),
    FunctionMessage(content="rain", name="weather"),
    HumanMessage(
        [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]
    ),
    Document(page_content="once", metadata={"page": 1}),
    StringPromptValue(text="hello"),
    ChatPromptValueConcrete(messages=[SystemMessage("be brief"), HumanMessage("hello")]),
]

Remote = Callable[..., RemoteRunnable]


@pytest.fixture(scope="module")
def remote(stack: EmbeddedStack, chains: None) -> Remote:
    """Return a function that makes LangServe's client of a chain."""

    def make(slug: str, key: str = stack.demo_key) -> RemoteRunnable:
        url = f"{stack.url}/chains/{slug}"
        return RemoteRunnable(url, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    return make


def status_of(error: pytest.ExceptionInfo[httpx.HTTPStatusError]) -> int:
    """Return the status that the client raised."""
    return error.value.response.status_code


def test_a_string_goes_in_and_comes_out(remote: Remote) -> None:
    assert remote("echo").invoke("hé\nllo") == "hé\nllo"


def test_a_trailing_slash_in_the_url_makes_no_difference(remote: Remote) -> None:
    assert remote("echo/").invoke("hello") == "hello"


def test_a_chain_that_wants_a_pydantic_model_is_given_one(remote: Remote) -> None:
    assert remote("typed").invoke({"item": "tea"}) == {"line": "1 x tea", "total": 1}


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_an_object_arrives_as_what_it_is_and_comes_back_the_same(
    remote: Remote, value: Any
) -> None:
    assert remote("names").invoke(value) == type(value).__name__
    assert remote("mirror").invoke({"deep": [value]}) == {"deep": [value]}


def test_messages_arrive_as_messages_in_a_list_and_in_a_prompt(remote: Remote) -> None:
    assert remote("names").invoke([HumanMessage("a"), AIMessage("b")]) == [
        "HumanMessage",
        "AIMessage",
    ]
    filled = remote("prompt").invoke({"question": "why?", "history": [AIMessage("b")]})
    assert filled == ChatPromptValueConcrete(
        messages=[
            SystemMessage("Obey the rules of the house."),
            AIMessage("b"),
            HumanMessage("why?"),
        ]
    )


def test_a_stream_comes_in_chunks_that_add_up(remote: Remote) -> None:
    chunks = list(remote("words").stream("one two three"))
    assert chunks == [
        AIMessageChunk(content="one"),
        AIMessageChunk(content="two"),
        AIMessageChunk(content="three"),
    ]
    total: Any = chunks[0] + chunks[1] + chunks[2]
    assert total.content == "onetwothree"


def test_chunks_arrive_as_they_are_made(remote: Remote) -> None:
    started = time.monotonic()
    seconds = [time.monotonic() - started for _ in remote("async_slow_words").stream("a b c d e")]
    assert len(seconds) == 5
    assert seconds[-1] - seconds[0] > 0.4


def test_heartbeats_do_not_disturb_the_client(remote: Remote) -> None:
    assert list(remote("silent").stream(2.5)) == ["begun", "done"]


def test_a_chain_that_can_only_be_awaited_serves_every_call(remote: Remote) -> None:
    assert remote("async_only").invoke("a") == "A"
    assert remote("async_only").batch(["a", "b"]) == ["A", "B"]
    assert list(remote("async_words").stream("a b c")) == ["a", "b", "c"]


def test_the_client_can_be_awaited(remote: Remote) -> None:
    async def call() -> tuple[Any, Any, Any]:
        words = [chunk async for chunk in remote("words").astream("a b")]
        return await remote("echo").ainvoke("a"), await remote("echo").abatch(["a", "b"]), words

    assert asyncio.run(call()) == (
        "a",
        ["a", "b"],
        [AIMessageChunk(content="a"), AIMessageChunk(content="b")],
    )


def test_a_batch_keeps_the_order_of_its_inputs(remote: Remote) -> None:
    assert remote("divide").batch([{"by": number} for number in (1, 2, 4, 5)]) == [100, 50, 25, 20]


def test_a_batch_runs_side_by_side_up_to_a_limit(remote: Remote) -> None:
    inside = remote("crowd").batch([0.2] * 16)
    assert max(inside) == 8
    assert max(remote("crowd").batch([0.05] * 6, {"max_concurrency": 2})) == 2


def test_a_failing_item_fails_the_batch_and_ends_the_others(remote: Remote) -> None:
    started = time.monotonic()
    with pytest.raises(httpx.HTTPStatusError) as error:
        remote("crowd").batch([30.0, 30.0, -1.0])
    assert status_of(error) == 500
    assert time.monotonic() - started < slack(5)
    # Both nodes are checked, as either may have run the batch.
    assert [remote("crowd").invoke(0.0) for _ in range(4)] == [1, 1, 1, 1]


def test_a_client_that_leaves_ends_its_batch(remote: Remote, stack: EmbeddedStack) -> None:
    headers = {"Authorization": f"Bearer {stack.demo_key}"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{stack.url}/chains/crowd/batch",
            json={"inputs": [50.0] * 4},
            headers=headers,
            timeout=0.5,
        )
    time.sleep(1)
    assert [remote("crowd").invoke(0.0) for _ in range(4)] == [1, 1, 1, 1]


def test_a_chains_own_failure_raises_and_tells_nothing(remote: Remote) -> None:
    for call in (
        lambda: remote("broken").invoke("x"),
        lambda: remote("broken").batch(["x", "y"]),
        lambda: list(remote("broken").stream("x")),
        lambda: remote("no_json").invoke("x"),
    ):
        with pytest.raises(httpx.HTTPStatusError) as error:
            call()
        assert status_of(error) == 500
        assert SECRET not in str(error.value)


def test_a_provider_that_fails_at_once_raises_its_status(remote: Remote) -> None:
    for call in (
        lambda: remote("provider_down").invoke("x"),
        lambda: list(remote("provider_down").stream("x")),
        lambda: list(remote("provider-fail-500").stream("x")),
    ):
        with pytest.raises(httpx.HTTPStatusError) as error:
            call()
        assert status_of(error) == 502
        assert SECRET not in str(error.value)


def test_a_failure_inside_a_stream_raises_after_what_had_come(remote: Remote) -> None:
    chunks = remote("fails_later").stream("begun")
    assert next(chunks) == "begun"
    with pytest.raises(httpx.HTTPStatusError) as error:
        next(chunks)
    assert status_of(error) == 502
    assert SECRET not in str(error.value)


def test_the_configuration_reaches_the_chain_within_the_servers_bounds(remote: Remote) -> None:
    seen = remote("see_config").invoke(
        "x",
        {
            "tags": ["a"],
            "metadata": {"user": "ann"},
            "max_concurrency": 1000,
            "recursion_limit": 5000,
        },
    )
    assert seen == {
        "tags": ["a"],
        "metadata": {"user": "ann"},
        "max_concurrency": 8,
        "recursion_limit": 100,
        "configurable": {},
    }


def test_a_batch_may_have_a_configuration_for_each_input(remote: Remote) -> None:
    configs: Any = [{"tags": ["a"]}, {"tags": ["b"]}]
    seen = remote("see_config").batch(["x", "y"], configs)
    assert [one["tags"] for one in seen] == [["a"], ["b"]]


def test_a_declared_option_is_passed_on_and_another_is_refused(remote: Remote) -> None:
    assert remote("greeter").invoke("ann", {"configurable": {"greeting": "hi"}}) == "hi ann"
    with pytest.raises(httpx.HTTPStatusError, match=r"config\.configurable\.volume") as error:
        remote("greeter").invoke("ann", {"configurable": {"volume": 11}})
    assert status_of(error) == 400


def test_a_remote_chain_is_a_step_of_a_local_one(remote: Remote) -> None:
    chain = RunnableLambda(str.upper) | remote("echo") | StrOutputParser()
    assert chain.invoke("hello", {"run_name": "mine", "tags": ["x"]}) == "HELLO"
    assert "".join(chain.stream("hello", {"run_name": "mine"})) == "HELLO"


def test_a_remote_chain_is_a_node_of_a_graph(remote: Remote) -> None:
    class State(TypedDict):
        text: str

    def ask(state: State) -> State:
        return {"text": remote("echo").invoke(state["text"])}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    result = graph.compile().invoke({"text": "hello"}, {"configurable": {"thread_id": "1"}})
    assert result == {"text": "hello"}


def test_a_wrong_key_raises(remote: Remote) -> None:
    with pytest.raises(httpx.HTTPStatusError) as error:
        remote("echo", key="hr_wrong").invoke("x")
    assert status_of(error) == 401


def test_what_is_not_served_raises_a_404(remote: Remote) -> None:
    async def log() -> None:
        async for _ in remote("echo").astream_log("x"):
            pass

    async def events() -> None:
        async for _ in remote("echo").astream_events("x", version="v2"):
            pass

    for call in (log, events):
        with pytest.raises(httpx.HTTPStatusError) as error:
            asyncio.run(call())
        assert status_of(error) == 404


def test_the_tokens_of_a_batch_count_against_the_keys_quota(
    remote: Remote, stack: EmbeddedStack
) -> None:
    options = ("--name=metered", "--tokens-per-day=100000", "--json")
    key = json.loads(manage(stack, "apikey", "create", *options))["key"]
    answers = remote("provider-hello", key).batch(["hello", "hello", "hello"])
    used = sum(answer.usage_metadata["total_tokens"] for answer in answers)
    assert used > 0
    headers = {"Authorization": f"Bearer {key}"}
    after = httpx.post(f"{stack.url}/chains/echo/invoke", json={"input": "x"}, headers=headers)
    assert after.headers["x-ratelimit-remaining-tokens"] == str(100_000 - used)


def test_the_assistant_answers_a_string_and_a_history(
    remote: Remote, save_chains: Callable[..., None]
) -> None:
    # The stack's own local model, with a short answer.
    save_chains({"slug": "assistant-short", "runnable": "assistant", "max_tokens": 16})
    assistant = remote("assistant-short")
    assert isinstance(assistant.invoke("Say hello."), AIMessage)
    history: list[BaseMessage] = [HumanMessage("Say hello.")]
    chunks = list(assistant.stream({"messages": history}))
    assert len(chunks) > 1
    answer: Any = chunks[0]
    for chunk in chunks[1:]:
        answer += chunk
    assert answer.usage_metadata["output_tokens"] > 0
    # A streamed answer goes back into the history as it came.
    again = assistant.invoke({"messages": [*history, answer, HumanMessage("Again.")]})
    assert isinstance(again, AIMessage)
    assert again.content


@pytest.mark.skipif(not LICENCE.exists(), reason=f"there is no {LICENCE}")
def test_a_long_document_is_summarized(remote: Remote) -> None:
    summarize = remote("summarize-quick")
    summary = summarize.invoke({"text": LICENCE.read_text()})
    assert isinstance(summary, str)
    assert summary
    assert "".join(summarize.stream({"text": LICENCE.read_text()})) == summary


def test_ids_chosen_by_the_client_name_the_run(stack: EmbeddedStack, chains: None) -> None:
    run_id = "0192f0c1-2f6e-7c4a-8b1d-0a1b2c3d4e5f"
    headers = {"Authorization": f"Bearer {stack.demo_key}"}
    body = {"input": "x", "config": {"run_id": run_id}}
    answer = httpx.post(f"{stack.url}/chains/echo/invoke", json=body, headers=headers).json()
    assert answer["metadata"]["run_id"] == run_id
    batch = {"inputs": ["x", "y"], "config": {"run_id": run_id}}
    answers = httpx.post(f"{stack.url}/chains/echo/batch", json=batch, headers=headers).json()
    assert answers["metadata"]["run_ids"][0] == run_id
    assert answers["metadata"]["run_ids"][1] != run_id
