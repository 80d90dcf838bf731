"""The Responses API as OpenAI's own SDK sees it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from tests.jobs.responses.responses import check, wait_for
from tests.odd_chunks import CUT
from tests.stack_plugin import BASE_DIR, EmbeddedStack
from tests.support.calls import error_of
from tests.support.waiting import slack


# --- Answers ------------------------------------------------------------------------------------
def test_a_request_waits_for_its_answer(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(
        model="provider-hello", input="Hi", metadata={"ticket": "7"}, user="ada"
    )
    check(response)
    assert response.output_text == "Hello there."
    assert response.status == "completed"
    assert response.background is False
    assert response.metadata == {"ticket": "7"}
    assert response.user == "ada"
    assert response.usage is not None
    assert response.usage.total_tokens == (
        response.usage.input_tokens + response.usage.output_tokens
    )
    assert response.usage.total_tokens > 0
    assert sdk.responses.retrieve(response.id) == response


def test_a_response_in_the_background_is_queued_at_once(sdk: openai.OpenAI) -> None:
    started = time.monotonic()
    response = sdk.responses.create(model="provider-slow-start", input="Hi", background=True)
    assert time.monotonic() - started < slack(2)
    check(response)
    assert (response.status, response.output, response.usage) == ("queued", [], None)
    assert response.background is True
    done = wait_for(sdk, response.id, "completed")
    check(done)
    assert done.output_text == "At last."


def test_the_instructions_come_before_the_messages_and_options_reach_the_model(
    sdk: openai.OpenAI,
) -> None:
    response = sdk.responses.create(
        model="provider-echo",
        instructions="Be brief.",
        input=[
            {"role": "user", "content": "One"},
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Two", "annotations": []}],
            },
            {"role": "user", "content": [{"type": "input_text", "text": "Three"}]},
        ],
        temperature=0.5,
        top_p=0.25,
        max_output_tokens=9,
    )
    asked = json.loads(response.output_text)
    assert [(m["role"], m["content"]) for m in asked["messages"]] == [
        ("system", "Be brief."),
        ("user", "One"),
        ("assistant", "Two"),
        ("user", "Three"),
    ]
    assert (asked["temperature"], asked["top_p"]) == (0.5, 0.25)
    assert 9 in (asked.get("max_tokens"), asked.get("max_completion_tokens"))
    assert response.instructions == "Be brief."
    assert (response.temperature, response.top_p, response.max_output_tokens) == (0.5, 0.25, 9)


def test_an_answer_can_be_sent_back_unchanged(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(model="provider-hello", input="Hi")
    history: Any = [{"role": "user", "content": "Hi"}, *first.output]
    history.append({"role": "user", "content": "And now?"})
    second = sdk.responses.create(model="provider-echo", input=history)
    said = [message["content"] for message in json.loads(second.output_text)["messages"]]
    assert said == ["Hi", "Hello there.", "And now?"]


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("echo", "Hi"),
        ("bare_model", None),
        ("question_only", "You asked Hi"),
        ("words", "Hi"),
        ("mirror", None),
    ],
)
def test_every_kind_of_chat_chain_answers(sdk: openai.OpenAI, model: str, text: str | None) -> None:
    response = sdk.responses.create(model=model, input="Hi")
    check(response)
    assert response.status == "completed", response.error
    assert response.output_text == (text or response.output_text) != ""


@pytest.mark.parametrize(
    ("model", "reason"),
    [("provider-cut-short", "max_output_tokens"), ("provider-filtered", "content_filter")],
)
def test_an_answer_that_was_cut_off_is_incomplete(
    sdk: openai.OpenAI, model: str, reason: str
) -> None:
    response = sdk.responses.create(model=model, input="Hi")
    check(response)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == reason
    assert response.output_text


def test_the_tools_that_a_chain_calls_are_items(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(model="provider-tool-call", input="Hi")
    check(response)
    assert [(item.type, item.arguments) for item in response.output] == [  # type: ignore[union-attr]
        ("function_call", '{"city": "Oslo"}'),
        ("function_call", '{"city": "Rome"}'),
    ]


def test_a_failure_is_a_response_that_says_so(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(model="provider-too-long", input="Hi")
    check(response)
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.code == "invalid_prompt"
    assert response.error.type == "context_length_exceeded"
    assert response.output == []


# --- Answers that are more than text ------------------------------------------------------------
def test_a_refusal_is_a_part_of_its_own(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(model="odd", input="refusal")
    check(response)
    item: Any = response.output[0]
    assert [(part.type, part.refusal) for part in item.content] == [("refusal", "I cannot.")]
    with sdk.responses.stream(model="odd", input="refusal") as stream:
        final = stream.get_final_response()
    assert final.output[0].content == item.content  # type: ignore[union-attr]
    history: Any = [{"role": "user", "content": "Hi"}, *response.output]
    history += [item.model_dump(), {"role": "user", "content": "Well?"}]
    asked = json.loads(sdk.responses.create(model="provider-echo", input=history).output_text)
    assert [m["content"] for m in asked["messages"]] == ["Hi", "I cannot.", "I cannot.", "Well?"]


def test_half_a_call_is_an_incomplete_item(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(model="odd", input="cut call")
    check(response)
    assert response.status == "incomplete"
    (item,) = response.output
    assert (item.type, item.status, item.arguments) == ("function_call", "incomplete", CUT)  # type: ignore[union-attr]


def test_calls_and_their_results_are_taken_back(sdk: openai.OpenAI) -> None:
    called = sdk.responses.create(model="odd", input="same index")
    check(called)
    for items in (called.output, [item.model_dump() for item in called.output]):
        history: Any = [{"role": "user", "content": "Hi"}, *items]
        history += [
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {
                "type": "function_call_output",
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "2"}],
            },
        ]
        asked = json.loads(sdk.responses.create(model="provider-echo", input=history).output_text)
        roles = [message["role"] for message in asked["messages"]]
        assert roles == ["user", "assistant", "tool", "tool"]
        sent = asked["messages"][1]["tool_calls"]
        assert [call["id"] for call in sent] == ["c1", "c2"]
        assert [json.loads(c["function"]["arguments"]) for c in sent] == [
            {"q": "one"},
            {"q": "two"},
        ]
        assert [m["content"] for m in asked["messages"][2:]] == ["1", "2"]


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": None},
        {"tools": []},
        {"tool_choice": "auto", "parallel_tool_calls": True},
        {"include": []},
        {"reasoning": None},
        {"reasoning": {}},
        {"reasoning": {"effort": None, "summary": None}},
        {"text": {"format": {"type": "text"}}},
        {"text": {"format": {"type": "text"}, "verbosity": "medium"}},
        {"truncation": "disabled"},
        {"service_tier": "auto"},
        {"top_logprobs": 0},
        {"max_output_tokens": 100.0},
        {"stream_options": {"include_obfuscation": False}},
        {"stream_options": None, "background": None, "stream": None, "store": None},
        {"safety_identifier": "u", "prompt_cache_key": "k"},
        {"input": [{"role": "user", "content": []}]},
    ],
)
def test_what_changes_nothing_by_its_value_is_taken(
    http: httpx.Client, more: dict[str, Any]
) -> None:
    answer = http.post("/v1/responses", json={"model": "provider-hello", "input": "Hi", **more})
    assert answer.status_code == 200, answer.text


def test_an_item_of_another_kind_is_refused_by_its_type(http: httpx.Client) -> None:
    items = [{"role": "user", "content": "Hi"}, {"type": "computer_call", "id": "x"}]
    answer = http.post("/v1/responses", json={"model": "provider-hello", "input": items})
    error = error_of(answer, 400, None)
    assert error["param"] == "input.1.type"
    assert "function_call_output" in error["message"]


# --- Refusals -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "function", "name": "f"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "text"}, "verbosity": "medium", "x": 1}}, "text.x"),
        ({"truncation": "auto"}, "truncation"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
        ({"input": [{"role": "user", "content": "Hi", "name": "x"}]}, "input.0.name"),
        (
            {"input": [{"role": "user", "content": [{"type": "text", "text": "", "x": 1}]}]},
            "input.0.content.0.x",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    http: httpx.Client, body: dict[str, Any], param: str
) -> None:
    answer = http.post("/v1/responses", json={"model": "provider-hello", "input": "Hi", **body})
    assert error_of(answer, 400, "unsupported_parameter")["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        {"store": False},
        {"input": ""},
        {"input": []},
        {"input": "a\0b"},
        {"input": None},
        {"input": [{"role": "tool", "content": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"max_output_tokens": 0},
        {"text": {"format": {"type": "json_object"}}},
        {"input": [{"type": "function_call_output", "call_id": "c1", "output": "9"}]},
        {"stream": True, "stream_options": {"include_obfuscation": True}},
    ],
)
def test_wrong_values_are_refused(http: httpx.Client, body: dict[str, Any]) -> None:
    answer = http.post("/v1/responses", json={"model": "provider-hello", "input": "Hi", **body})
    assert answer.status_code == 400, answer.text


def test_a_chain_that_takes_no_messages_is_refused(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        sdk.responses.create(model="divide", input="Hi")
    assert (error.value.code, error.value.param) == ("not_a_chat_chain", "model")
    with pytest.raises(openai.BadRequestError) as error:
        sdk.responses.create(model="question_only", input="Hi", instructions="Be brief.")
    assert error.value.param == "instructions"


def test_an_unknown_model_is_not_found(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        sdk.responses.create(model="nobody", input="Hi")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    "query",
    [
        "starting_after=1",
        "stream=yes",
        "stream=true&starting_after=-1",
        "include=x",
        "stream=true&include_obfuscation=true",
    ],
)
def test_a_wrong_query_is_refused(http: httpx.Client, query: str) -> None:
    made = http.post("/v1/responses", json={"model": "provider-hello", "input": "Hi"}).json()
    assert http.get(f"/v1/responses/{made['id']}?{query}").status_code == 400


def test_only_ones_own_responses_are_found(
    sdk: openai.OpenAI, http: httpx.Client, other_http: httpx.Client
) -> None:
    made = sdk.responses.create(model="provider-hello", input="Hi").id
    job = http.post("/v1/jobs", json={"chain": "echo", "input": "Hi"}).json()["id"]
    found: list[tuple[httpx.Client, str]] = [
        (other_http, made),
        (http, made.replace("resp_", "job_")),
        (http, job.replace("job_", "resp_")),
        (http, f"resp_{uuid.uuid4().hex}"),
    ]
    ask: list[Callable[[httpx.Client, str], httpx.Response]] = [
        lambda client, name: client.get(f"/v1/responses/{name}"),
        lambda client, name: client.get(f"/v1/responses/{name}?stream=true"),
        lambda client, name: client.post(f"/v1/responses/{name}/cancel"),
    ]
    for client, name in found:
        for call in ask:
            error_of(call(client, name), 404, "response_not_found")


def test_a_response_cannot_be_deleted(http: httpx.Client) -> None:
    made = http.post("/v1/responses", json={"model": "provider-hello", "input": "Hi"}).json()
    error_of(http.delete(f"/v1/responses/{made['id']}"), 405, "method_not_allowed")


# --- The guide ----------------------------------------------------------------------------------
def test_the_example_of_the_guide_works(
    stack: EmbeddedStack,
    chains: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    guide = (BASE_DIR / "docs/guides/responses.md").read_text(encoding="utf-8")
    source = guide.split("```python\n")[1].split("```")[0]
    source = source.replace("http://127.0.0.1:8000", stack.url)
    source = source.replace('"assistant"', '"provider-hello"')
    monkeypatch.setenv("HEADRACE_KEY", stack.demo_key)
    exec(source, {})  # noqa: S102 - our own document
    assert capsys.readouterr().out == "Hello there.\ncompleted Hello there.\nHello there."
