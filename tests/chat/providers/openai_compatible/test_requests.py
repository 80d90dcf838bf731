"""What the provider is sent: messages, parameters and options."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic import BaseModel, SecretStr, ValidationError

from chat.chains.config import ChainConfig
from chat.providers.chat_model import ResilientChatModel
from chat.providers.openai_compatible import OpenAICompatibleChatModel
from chat.providers.openai_compatible.endpoint import endpoint_of
from chat.providers.openai_compatible.messages import to_wire
from chat.providers.openai_compatible.pool import close_pools
from tests.chat.providers.openai_compatible.conftest import MakeModel
from tests.provider import Provider

ARGUMENTS = '{"id": 98765432109876543210987, "price": 1.10, "n": 1E5}'


class Person(BaseModel):
    """Somebody."""

    name: str


def wire(*messages: BaseMessage) -> list[dict[str, Any]]:
    return to_wire(messages, system_role="system")


def sent(provider: Provider) -> dict[str, Any]:
    """Return the body of the last call."""
    return provider.calls[-1].body


def test_messages_have_the_roles_of_the_api() -> None:
    found = wire(
        SystemMessage("Be brief."),
        HumanMessage("Hi", name="ada"),
        AIMessage("Hello"),
        ToolMessage("9", tool_call_id="tc_1", name="sum"),
    )
    assert found == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "name": "ada"},
        {"role": "assistant", "content": "Hello"},
        {"role": "tool", "content": "9", "tool_call_id": "tc_1"},
    ]


def test_calls_go_back_with_the_models_own_text_and_in_its_order() -> None:
    raw = [
        {"id": "tc_1", "type": "function", "function": {"name": "cut", "arguments": '{"a'}},
        {"id": "tc_2", "type": "function", "function": {"name": "store", "arguments": ARGUMENTS}},
    ]
    args = {"id": 98765432109876543210987, "price": 1.1, "n": 1e5}
    message = AIMessage(
        "",
        tool_calls=[{"name": "store", "args": args, "id": "tc_2"}],
        invalid_tool_calls=[{"name": "cut", "args": '{"a', "id": "tc_1", "error": "x"}],
        additional_kwargs={"tool_calls": raw},
    )
    assert wire(message) == [{"role": "assistant", "content": None, "tool_calls": raw}]


def test_calls_that_a_chain_changed_go_out_as_it_changed_them() -> None:
    raw = [{"id": "tc_1", "function": {"name": "store", "arguments": ARGUMENTS}}]
    message = AIMessage(
        "",
        tool_calls=[{"name": "store", "args": {"id": 2**70, "t": "ü"}, "id": "tc_1"}],
        additional_kwargs={"tool_calls": raw},
    )
    (call,) = wire(message)[0]["tool_calls"]
    assert call["function"]["arguments"] == '{"id": 1180591620717411303424, "t": "ü"}'


def test_an_answer_with_big_integers_goes_back_to_the_letter(
    make_model: MakeModel, own_provider: Provider
) -> None:
    model = make_model("call-big-integer")
    answer = model.invoke("x")
    model.invoke([HumanMessage("x"), answer, ToolMessage("9", tool_call_id="tc_1")])
    (call,) = sent(own_provider)["messages"][1]["tool_calls"]
    assert call["function"]["arguments"] == '{"id": 98765432109876543210987, "price": 1.10}'


def test_parts_of_messages_are_passed_on() -> None:
    url = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    found = wire(
        HumanMessage(
            [
                "Look:",
                {"type": "text", "text": "a", "id": "lc_1"},
                url,
                {"type": "image", "base64": "QUJD", "mime_type": "image/png"},
                {"type": "audio", "base64": "QUJD", "mime_type": "audio/wav"},
                {"type": "file", "base64": "QUJD", "mime_type": "application/pdf", "filename": "a"},
            ]
        )
    )
    parts = found[0]["content"]
    assert parts[:3] == [{"type": "text", "text": "Look:"}, {"type": "text", "text": "a"}, url]
    assert parts[3]["image_url"]["url"] == "data:image/png;base64,QUJD"
    assert parts[4]["input_audio"] == {"data": "QUJD", "format": "wav"}
    assert parts[5]["file"]["file_data"] == "data:application/pdf;base64,QUJD"


def test_an_answers_reasoning_is_not_sent_back_and_its_text_is_one() -> None:
    content: list[Any] = [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
    ]
    assert wire(AIMessage(content)) == [{"role": "assistant", "content": "ab"}]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ({}, [None, "call it"]),
        ({"send_reasoning": "always"}, ["hm", "call it"]),
        ({"send_reasoning": "never"}, [None, None]),
    ],
)
def test_reasoning_is_sent_back_as_the_parameter_says(
    make_model: MakeModel, own_provider: Provider, mode: dict[str, Any], expected: list[Any]
) -> None:
    call = {"name": "f", "args": {}, "id": "tc_1", "type": "tool_call"}
    model = make_model("hello", **mode)
    model.invoke(
        [
            HumanMessage("x", additional_kwargs={"reasoning_content": "not an answer"}),
            AIMessage("a", additional_kwargs={"reasoning_content": "hm"}),
            AIMessage("", tool_calls=[call], additional_kwargs={"reasoning_content": "call it"}),
            ToolMessage("9", tool_call_id="tc_1"),
            AIMessage("", tool_calls=[call], additional_kwargs={"reasoning_content": {"no": 1}}),
        ]
    )
    found = [message.get("reasoning_content") for message in sent(own_provider)["messages"]]
    assert found == [None, *expected, None, None]


def test_parameters_options_and_the_extra_body_are_one_body(
    make_model: MakeModel, own_provider: Provider
) -> None:
    model = make_model(
        "hello", temperature=0.5, max_tokens=7, seed=1, extra_body={"top_k": 3, "min_p": 0}
    )
    model.invoke("x", temperature=0, seed=None, stop=["."], extra_body={"min_p": 1})
    body = sent(own_provider)
    assert {name: value for name, value in body.items() if name != "messages"} == {
        "model": "hello",
        "temperature": 0,
        "max_completion_tokens": 7,
        "seed": 1,
        "stop": ["."],
        "top_k": 3,
        "min_p": 1,
    }


def test_a_server_may_know_only_the_older_name(
    make_model: MakeModel, own_provider: Provider
) -> None:
    make_model("hello", max_tokens_name="max_tokens").invoke("x", max_tokens=7)
    assert sent(own_provider)["max_tokens"] == 7
    assert "max_completion_tokens" not in sent(own_provider)


def test_a_stream_requests_its_usage_unless_that_is_off(
    make_model: MakeModel, own_provider: Provider
) -> None:
    list(make_model("hello").stream("x"))
    assert sent(own_provider)["stream_options"] == {"include_usage": True}
    list(make_model("hello", stream_usage=False).stream("x"))
    assert "stream_options" not in sent(own_provider)


def test_half_a_character_and_large_integers_can_be_sent(
    make_model: MakeModel, own_provider: Provider
) -> None:
    make_model("hello").invoke("a\ud83c", seed=2**70)
    assert own_provider.calls[-1].text == "a\ufffd"
    assert sent(own_provider)["seed"] == 2**70


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
@pytest.mark.parametrize("schema", [Person, Person.model_json_schema()], ids=["class", "schema"])
def test_structured_output_is_requested_by_each_method(
    make_model: MakeModel, own_provider: Provider, method: Any, schema: Any
) -> None:
    model = make_model("structured")
    found = model.with_structured_output(schema, method=method).invoke("Who?")
    assert found == (Person(name="Ada") if schema is Person else {"name": "Ada"})
    kind = "json_schema" if method == "json_schema" else "json_object"
    if method == "function_calling":
        assert sent(own_provider)["tool_choice"]["function"]["name"] == "Person"
    else:
        assert sent(own_provider)["response_format"]["type"] == kind
    raw = model.with_structured_output(schema, method=method, include_raw=True).invoke("Who?")
    assert raw["parsed"] == found
    assert raw["parsing_error"] is None


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_a_chains_model_has_the_same_methods(own_provider: Provider, method: Any) -> None:
    config = ChainConfig(
        slug="x",
        version=1,
        runnable="assistant",
        model_name="openai:structured",
        base_url=own_provider.base_url,
    )
    model = ResilientChatModel.from_config(config)
    assert model.with_structured_output(Person, method=method).invoke("Who?") == Person(name="Ada")
    close_pools()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("any", "required"),
        (True, "required"),
        ("none", "none"),
        ("Person", {"type": "function", "function": {"name": "Person"}}),
    ],
)
def test_a_choice_of_tools_is_the_apis(
    make_model: MakeModel, own_provider: Provider, choice: Any, expected: Any
) -> None:
    make_model("hello").bind_tools([Person], tool_choice=choice).invoke("x")
    assert sent(own_provider)["tool_choice"] == expected
    assert sent(own_provider)["tools"][0]["function"]["name"] == "Person"


def test_no_choice_of_tools_is_none(make_model: MakeModel, own_provider: Provider) -> None:
    make_model("hello").bind_tools([Person]).invoke("x")
    assert "tool_choice" not in sent(own_provider)


def test_a_key_is_sent_and_never_shown(make_model: MakeModel, own_provider: Provider) -> None:
    model = make_model("hello", api_key=SecretStr("sk-1"))
    model.invoke("x")
    assert own_provider.calls[-1].headers["authorization"] == "Bearer sk-1"
    assert "sk-1" not in f"{model!r} {model} {model.asdict()}"
    make_model("hello").invoke("x")
    assert "authorization" not in own_provider.calls[-1].headers


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a/v1",
        "http://",
        "http:///v1",
        "http://a:x/v1",
        "http://a/v 1",
        "http://a/\r\nX: 1",
    ],
)
def test_a_base_url_that_cannot_be_called_is_refused(url: str) -> None:
    with pytest.raises((ValidationError, ValueError)):
        OpenAICompatibleChatModel(model="m", base_url=url)


def test_a_key_with_a_line_end_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="plain ASCII") as caught:
        OpenAICompatibleChatModel(
            model="m", base_url="http://a/v1", api_key=SecretStr("sk-1\r\nX: 1")
        )
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "first_line", "host"),
    [
        ("https://a.example/v1/", "POST /v1/chat/completions HTTP/1.1", "a.example"),
        ("http://u:p@a.example:8080", "POST /chat/completions HTTP/1.1", "a.example:8080"),
        ("https://a.example/v1?v=2", "POST /v1/chat/completions?v=2 HTTP/1.1", "a.example"),
        ("http://[::1]:8/v1", "POST /v1/chat/completions HTTP/1.1", "[::1]:8"),
        (
            "https://bücher.example/v1",
            "POST /v1/chat/completions HTTP/1.1",
            "xn--bcher-kva.example",
        ),
    ],
)
def test_the_address_of_a_request(url: str, first_line: str, host: str) -> None:
    lines = endpoint_of(url, "", "").head.decode().split("\r\n")
    assert lines[0] == first_line
    assert lines[1] == f"Host: {host}"
