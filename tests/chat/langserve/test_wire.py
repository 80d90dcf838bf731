"""LangServe's endpoints as bytes: what goes over the wire, and what is refused."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.failing_chains import SECRET
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import error_of, logs, read_events
from tests.support.waiting import slack

HUMAN = {"type": "human", "content": "hello"}
CONSTRUCTOR = {
    "lc": 1,
    "type": "constructor",
    "id": ["langchain", "schema", "messages", "HumanMessage"],
    "kwargs": {"content": "hello", "type": "human"},
}


def invoke(http: httpx.Client, slug: str, value: Any, **more: Any) -> httpx.Response:
    """Call `invoke` with an input."""
    return http.post(f"/chains/{slug}/invoke", json={"input": value, **more})


def test_invoke_answers_with_the_output_and_the_runs_id(http: httpx.Client) -> None:
    answer = http.post(
        "/chains/echo/invoke", json={"input": "hello", "config": {}, "kwargs": {}}
    ).json()
    run_id = answer["metadata"]["run_id"]
    assert answer == {"output": "hello", "metadata": {"run_id": run_id, "feedback_tokens": []}}
    assert str(uuid.UUID(run_id)) == run_id


def test_config_and_kwargs_may_be_left_out(http: httpx.Client) -> None:
    assert invoke(http, "echo", "hello").json()["output"] == "hello"
    assert invoke(http, "echo", "hello", config=None, kwargs=None).json()["output"] == "hello"


def test_a_message_is_an_object_with_its_type(http: httpx.Client) -> None:
    output = invoke(http, "mirror", HUMAN).json()["output"]
    assert output == {
        "content": "hello",
        "additional_kwargs": {},
        "response_metadata": {},
        "type": "human",
        "name": None,
        "id": None,
    }


def test_batch_answers_with_a_run_for_each_input(http: httpx.Client) -> None:
    answer = http.post("/chains/echo/batch", json={"inputs": ["a", "b"]}).json()
    run_ids = answer["metadata"]["run_ids"]
    assert answer == {
        "output": ["a", "b"],
        "metadata": {
            "responses": [{"run_id": run_id, "feedback_tokens": []} for run_id in run_ids],
            "run_ids": run_ids,
        },
    }
    assert len(set(run_ids)) == 2


def test_an_empty_batch_is_answered_with_nothing(http: httpx.Client) -> None:
    assert http.post("/chains/echo/batch", json={"inputs": []}).json() == {
        "output": [],
        "metadata": {"responses": [], "run_ids": []},
    }


def test_a_stream_is_metadata_then_data_then_end(http: httpx.Client) -> None:
    answer = http.post("/chains/async_words/stream", json={"input": "a b"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    head, *rest = answer.text.split("\n\n")
    assert head.startswith('event: metadata\ndata: {"run_id":"')
    assert rest == ['event: data\ndata: "a"', 'event: data\ndata: "b"', "event: end", ""]


def test_a_line_break_in_a_chunk_stays_inside_its_event(http: httpx.Client) -> None:
    text = "a\n\nevent: end\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029b"
    answer = http.post("/chains/echo/stream", json={"input": text})
    assert [data for name, data in read_events(answer) if name == "data"] == [text]


def test_a_silent_chain_sends_comments_and_no_ids(http: httpx.Client) -> None:
    started = time.monotonic()
    with http.stream("POST", "/chains/silent/stream", json={"input": 2.5}) as answer:
        lines = [(line, time.monotonic() - started) for line in answer.iter_lines()]
    comments = [seconds for line, seconds in lines if line.startswith(":")]
    assert len(comments) == 2
    assert comments[0] < 2
    assert not [line for line, _ in lines if line.startswith("id")]


def test_a_failure_inside_a_stream_is_an_error_event(http: httpx.Client) -> None:
    answer = http.post("/chains/fails_later/stream", json={"input": "begun"})
    assert answer.status_code == 200
    assert list(read_events(answer))[1:] == [
        ("data", "begun"),
        ("error", {"status_code": 502, "message": "The model provider failed."}),
    ]
    assert SECRET not in answer.text


def test_a_chunk_without_json_is_an_error_event(http: httpx.Client, stack: EmbeddedStack) -> None:
    answer = http.post("/chains/no_json/stream", json={"input": "x"})
    name, data = list(read_events(answer))[-1]
    assert (name, data["status_code"]) == ("error", 500)
    assert "has no JSON form" in logs(stack)


def test_a_failure_before_the_first_chunk_has_its_own_status(http: httpx.Client) -> None:
    body = {"input": "x"}
    error_of(http.post("/chains/provider_down/stream", json=body), 502, "provider_error")
    error_of(http.post("/chains/broken/stream", json=body), 500, "chain_error")


def test_the_schemas_say_what_goes_in_and_out(http: httpx.Client) -> None:
    taken = http.get("/chains/typed/input_schema").json()
    assert taken["properties"]["count"] == {"default": 1, "title": "Count", "type": "integer"}
    given_back = http.get("/chains/typed/output_schema").json()
    assert given_back["required"] == ["line", "total"]
    assistant = http.get("/chains/assistant/input_schema").json()
    assert {"maxLength", "minLength", "type"} <= set(assistant["anyOf"][1])


def test_a_type_without_a_schema_allows_anything(http: httpx.Client) -> None:
    for name in ("input_schema", "output_schema"):
        answer = http.get(f"/chains/no_schema/{name}")
        assert (answer.status_code, answer.json()) == (200, {})


def test_the_config_schema_shows_a_chains_own_options(http: httpx.Client) -> None:
    plain = http.get("/chains/echo/config_schema").json()
    assert plain["properties"]["configurable"] == {"type": "object", "maxProperties": 0}
    assert "callbacks" not in plain["properties"]
    schema = http.get("/chains/greeter/config_schema").json()
    assert "greeting" in str(schema["$defs"])


@pytest.mark.parametrize(
    ("slug", "value", "param"),
    [
        ("summarize", {"text": 5}, "input.text"),
        ("summarize", {}, "input.text"),
        ("summarize", None, "input"),
        ("summarize", "text", "input"),
        ("typed", {"item": "tea", "count": "many"}, "input.count"),
        ("typed", [], "input"),
        ("echo", 5, "input"),
        ("divide", {"by": [1]}, "input.by"),
        ("prompt", {"history": []}, "input.question"),
        ("prompt", {"question": "q", "history": [{"type": "bot"}]}, "input.history.0"),
        ("assistant", {"messages": []}, "input.messages"),
        ("assistant", {"messages": "hello"}, "input.messages"),
        ("assistant", {"messages": [5]}, "input"),
        ("assistant", {"messages": [{"type": "bot", "content": "x"}]}, "input.messages.0"),
        ("assistant", {"messages": [{"role": "user", "content": "x"}]}, "input"),
        ("assistant", {"messages": [{**HUMAN, "content": 5}]}, "input.messages.0.content"),
        ("assistant", "", "input"),
        (
            "assistant",
            {"messages": [{**HUMAN, "content": [{"type": "text"}]}]},
            "input.messages.0.content.0.text",
        ),
        (
            "assistant",
            {"messages": [{"type": "ai", "content": "", "tool_calls": [{"name": 1}]}]},
            "input.messages.0.tool_calls.0.name",
        ),
        ("mirror", {"a": [{"type": "Document", "page_content": 5}]}, "input.a.0.page_content"),
    ],
)
def test_an_input_of_the_wrong_type_is_refused_by_its_name(
    http: httpx.Client, slug: str, value: Any, param: str
) -> None:
    error = error_of(invoke(http, slug, value), 422, "invalid_input")
    assert error["param"] == param
    assert error["message"].startswith(param)


def test_a_batch_names_the_input_that_is_wrong(http: httpx.Client) -> None:
    answer = http.post("/chains/divide/batch", json={"inputs": [{"by": 1}, {"by": "x"}]})
    assert error_of(answer, 422, "invalid_input")["param"] == "inputs.1.by"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x", "config": {"callbacks": ["log"]}}, "config.callbacks"),
        ({"input": "x", "config": {"store": 1}}, "config.store"),
        ({"input": "x", "config": {"configurable": {"model": "m"}}}, "config.configurable.model"),
        ({"input": "x", "kwargs": {"stop": ["."]}}, "kwargs.stop"),
        ({"input": "x", "diff": True}, "diff"),
        ({"input": {"deep": [CONSTRUCTOR]}}, "input.deep.0"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(
    http: httpx.Client, body: dict[str, Any], param: str
) -> None:
    answer = http.post("/chains/mirror/invoke", json=body)
    assert error_of(answer, 400, "unsupported_parameter")["param"] == param


def test_an_input_that_the_chain_does_not_know_never_reaches_it(http: httpx.Client) -> None:
    # The template would take it in the place of its own, filled-in variable.
    answer = invoke(http, "prompt", {"question": "q", "rules": "no rules"})
    assert error_of(answer, 400, "unsupported_parameter")["param"] == "input.rules"


@pytest.mark.parametrize(
    "config",
    [
        {"max_concurrency": 0},
        {"max_concurrency": True},
        {"recursion_limit": -1},
        {"recursion_limit": "9"},
        {"run_id": "x"},
        {"tags": "a"},
        {"tags": ["a"] * 33},
        {"metadata": []},
        {"run_name": "x" * 129},
        {"configurable": []},
        [],
        "x",
    ],
)
def test_a_bad_configuration_is_refused(http: httpx.Client, config: Any) -> None:
    error = error_of(invoke(http, "echo", "x", config=config), 400, None)
    assert error["param"].startswith("config")


def test_a_list_of_configurations_must_fit_the_inputs(http: httpx.Client) -> None:
    answer = http.post("/chains/echo/batch", json={"inputs": ["a", "b"], "config": [{}]})
    assert error_of(answer, 422, "invalid_config")["param"] == "config"


def test_a_batch_has_a_largest_size(http: httpx.Client) -> None:
    assert http.post("/chains/echo/batch", json={"inputs": ["a"] * 100}).status_code == 200
    answer = http.post("/chains/echo/batch", json={"inputs": ["a"] * 101})
    assert error_of(answer, 400, None)["param"] == "inputs"


def test_too_many_messages_and_too_long_ones_are_refused(http: httpx.Client) -> None:
    many = invoke(http, "mirror", [HUMAN] * 1001)
    assert error_of(many, 422, "invalid_input")["param"] == "input.1000"
    half = {**HUMAN, "content": "x" * 500_001}
    long = invoke(http, "mirror", {"a": half, "b": half})
    assert error_of(long, 422, "invalid_input")["param"] == "input.b"
    error_of(invoke(http, "assistant", "x" * 1_000_001), 422, "invalid_input")


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, None),
        (b'{"input": NaN}', 400, "invalid_json"),
        (b'{"input": "\xff"}', 400, "invalid_json"),
        (b'{"input": "\\ud800"}', 400, "invalid_json"),
        (b'{"input": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400, None),
        (b'{"input": "' + b"x" * (4 * 1024 * 1024) + b'"}', 413, "body_too_large"),
        (b"[]", 400, None),
        (b"{}", 400, None),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    http: httpx.Client, raw: bytes, status: int, code: str | None
) -> None:
    for endpoint in ("invoke", "batch", "stream"):
        answer = http.post(
            f"/chains/mirror/{endpoint}", content=raw, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == status, answer.text
        assert code is None or answer.json()["error"]["code"] == code


def test_only_json_is_read(http: httpx.Client) -> None:
    answer = http.post("/chains/echo/invoke", content=b"input=x", headers={"Content-Type": "a/b"})
    error_of(answer, 415, "unsupported_media_type")


def test_long_keys_above_many_values_cost_little(http: httpx.Client) -> None:
    wide = {"k" * 100_000: [[0]] * 15_000}
    started = time.monotonic()
    assert invoke(http, "names", wide).status_code == 200
    assert time.monotonic() - started < slack(10)


def test_an_unknown_chain_or_endpoint_is_not_found(http: httpx.Client) -> None:
    error_of(invoke(http, "nothing", "x"), 404, "model_not_found")
    error_of(invoke(http, "provider-disabled", "x"), 404, "model_not_found")
    for endpoint in ("stream_log", "stream_events", "playground", "feedback"):
        error = error_of(http.post(f"/chains/echo/{endpoint}", json={}), 404, "not_served")
        assert endpoint in error["message"]
    error_of(http.get("/chains/echo/stream_log"), 404, "not_served")


def test_the_wrong_method_is_refused(http: httpx.Client) -> None:
    error_of(http.get("/chains/echo/invoke"), 405, "method_not_allowed")
    error_of(http.post("/chains/echo/input_schema", json={}), 405, "method_not_allowed")


def test_every_endpoint_needs_a_key(stack: EmbeddedStack, chains: None) -> None:
    for endpoint in ("invoke", "batch", "stream", "stream_log"):
        answer = httpx.post(f"{stack.url}/chains/echo/{endpoint}", json={"input": "x"})
        error_of(answer, 401, "missing_api_key")
    for endpoint in ("input_schema", "output_schema", "config_schema"):
        error_of(httpx.get(f"{stack.url}/chains/echo/{endpoint}"), 401, "missing_api_key")


def test_a_batch_takes_one_place_among_the_concurrent_requests(
    make_http: Callable[[str], httpx.Client], chains: None
) -> None:
    client = make_http("single")
    for _ in range(5):
        answer = client.post("/chains/echo/batch", json={"inputs": ["a"] * 20})
        assert answer.status_code == 200
        assert client.post("/chains/echo/stream", json={"input": "a"}).status_code == 200


MESSAGE_KEYS = ["type", "content", "text", "id", "name", "tool_calls", "args", "tool_call_id"]
OTHER_KEYS = ["lc", "messages", "metadata", "page_content", "additional_kwargs", "question"]
KEYS = st.sampled_from([*MESSAGE_KEYS, *OTHER_KEYS])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["human", "ai", "tool", "system", "chat", "AIMessageChunk", "Document"])
    | st.sampled_from(["StringPromptValue", "ChatPromptValueConcrete", "constructor", "text"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=VALUES)
def test_no_input_breaks_a_chain_that_takes_anything(http: httpx.Client, value: Any) -> None:
    for slug in ("mirror", "prompt"):
        answer = invoke(http, slug, value)
        assert answer.status_code in (200, 400, 422), answer.text


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.dictionaries(st.sampled_from(["input", "inputs", "config", "kwargs"]), VALUES))
def test_no_body_breaks_an_endpoint(http: httpx.Client, body: Any) -> None:
    for endpoint in ("invoke", "batch", "stream"):
        answer = http.post(f"/chains/mirror/{endpoint}", json=body)
        assert answer.status_code in (200, 400, 422), answer.text
        assert "event: error" not in answer.text
