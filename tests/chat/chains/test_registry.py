"""How chat messages fit a runnable, by its input's type."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import BaseModel
from typing_extensions import TypedDict

from chat.chains.config import ChainConfig
from chat.chains.registry import ChatInput, build_chain, import_runnable, read_chat_input
from chat.errors import BadChain
from chat.inputs.chain_input import to_chain_input
from chat.providers.factory import key_for, make_model
from config.api.errors import InvalidRequest
from tests import chains


class State(TypedDict):
    """Like a graph's state."""

    messages: list[AnyMessage]


class Model(BaseModel):
    """A pydantic model with messages."""

    messages: list[AnyMessage]


class Two(TypedDict):
    """More than a chat can fill."""

    a: str
    b: str


class One(TypedDict, total=False):
    """Nothing is required, and there is one thing."""

    text: str


class Number(TypedDict):
    """One thing that is no text."""

    count: int


def config(**more: Any) -> ChainConfig:
    """Return a chain's configuration."""
    values = {
        "slug": "x",
        "version": 1,
        "runnable": "assistant",
        "model_name": "openai:m",
        "base_url": "http://127.0.0.1:9/v1",
    }
    return ChainConfig(**{**values, **more})


def takes(kind: Any) -> Runnable[Any, Any]:
    """Return a runnable of this input type."""
    return RunnableLambda(lambda value: value).with_types(input_type=kind)


@pytest.mark.parametrize(
    ("runnable", "expected"),
    [
        (takes(State), (ChatInput.MESSAGES, "")),
        (takes(Model), (ChatInput.MESSAGES, "")),
        (takes(list[AnyMessage]), (ChatInput.LIST, "")),
        (takes(list[str]), (ChatInput.NONE, "")),
        (takes(str), (ChatInput.TEXT, "")),
        (takes(str | State), (ChatInput.MESSAGES, "")),
        (takes(str | int), (ChatInput.TEXT, "")),
        (takes(One), (ChatInput.TEXT, "text")),
        (takes(Two), (ChatInput.NONE, "")),
        (takes(Number), (ChatInput.NONE, "")),
        (takes(int), (ChatInput.NONE, "")),
        (takes(bool), (ChatInput.NONE, "")),
        (takes(None), (ChatInput.MESSAGES, "")),
        (takes(Any), (ChatInput.MESSAGES, "")),
        (chains.question_only, (ChatInput.TEXT, "question")),
        (chains.typed, (ChatInput.TEXT, "item")),
        (chains.no_schema, (ChatInput.NONE, "")),
        (ChatPromptTemplate.from_template("Translate {text}"), (ChatInput.TEXT, "text")),
        (ChatPromptTemplate.from_template("{a} and {b}"), (ChatInput.NONE, "")),
        (
            ChatPromptTemplate.from_messages([MessagesPlaceholder("messages")]),
            (ChatInput.MESSAGES, ""),
        ),
        (RunnableLambda(lambda value: value), (ChatInput.MESSAGES, "")),
    ],
)
def test_the_input_type_decides_how_messages_reach_a_chain(
    runnable: Runnable[Any, Any], expected: tuple[ChatInput, str]
) -> None:
    assert read_chat_input(runnable) == expected


def test_the_built_in_chains_take_chats() -> None:
    assert build_chain(config()).chat_input is ChatInput.MESSAGES
    summarize = build_chain(config(runnable="summarize"))
    assert (summarize.chat_input, summarize.text_key) == (ChatInput.TEXT, "text")


def test_a_bare_model_takes_a_list() -> None:
    chain = build_chain(config(runnable="bare_model"))
    messages: Any = [HumanMessage("Hi")]
    assert to_chain_input(chain, messages) == messages


def test_a_chain_that_declares_a_model_gets_one_and_never_bad_text(settings: Any) -> None:
    chain = build_chain(config(runnable="typed"))
    assert to_chain_input(chain, [HumanMessage("tea")]) == chains.Order(item="tea")
    with pytest.raises(InvalidRequest):
        to_chain_input(build_chain(config(runnable="divide")), [HumanMessage("tea")])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unknown", "there is no runnable 'unknown'"),
        ("cannot_be_built", "LookupError: no template for x"),
        ("builds_no_runnable", "returned int, not a LangChain Runnable"),
    ],
)
def test_a_chain_that_cannot_be_built_has_a_reason(name: str, reason: str) -> None:
    with pytest.raises(BadChain, match=reason):
        build_chain(config(runnable=name))


def test_a_module_that_fails_while_it_is_imported_is_a_bad_chain(
    settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "teams_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    settings.CHAIN_RUNNABLES = {"mine": "teams_module.build"}
    with pytest.raises(BadChain, match="ZeroDivisionError"):
        import_runnable("mine")


# --- Models and their keys ----------------------------------------------------------------------
def test_a_key_goes_to_its_own_host_alone(settings: Any) -> None:
    settings.LLM_BASE_URL = "http://llm.example:8080/v1"
    settings.LLM_API_KEY = "main-key"
    settings.LLM_API_KEYS = {"other.example": "other-key"}
    assert key_for("http://llm.example:8080/v2") == "main-key"
    assert key_for("https://other.example/v1") == "other-key"
    for url in (
        "http://llm.example/v1",
        "http://llm.example:8080.evil.example/v1",
        "http://evil.example/?llm.example:8080",
        "http://evil.example#llm.example:8080",
        "http://llm.example:8080@evil.example/v1",
        "http://sub.other.example/v1",
    ):
        assert key_for(url) == "", url


def test_staff_cannot_send_the_key_to_a_server_of_their_own(settings: Any) -> None:
    settings.LLM_BASE_URL = ""
    settings.LLM_API_KEY = "main-key"
    model: Any = make_model("openai:m", config(base_url="http://evil.example/v1"))
    assert model.api_key.get_secret_value() == ""
    model = make_model("openai:m", config(base_url=""))
    assert model.api_key.get_secret_value() == "main-key"


def test_a_model_without_a_key_names_our_setting(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    settings.LLM_BASE_URL = settings.LLM_API_KEY = ""
    for model in ("openai:m", "langchain-openai:m"):
        with pytest.raises(BadChain, match=rf"^model '{model}' has no key: set LLM_API_KEY, or "):
            make_model(model, config(base_url=""))
    settings.LLM_API_KEY = "main-key"
    for model in ("openai:m", "langchain-openai:m"):
        with pytest.raises(BadChain, match="temperature"):
            make_model(model, config(base_url="", parameters={"temperature": "warm"}))


def test_retries_are_left_to_us_and_time_is_the_chains() -> None:
    model: Any = make_model("langchain-openai:m", config(timeout_seconds=17))
    assert model.max_retries == 0
    assert model.request_timeout == 17
    model = make_model("openai:m", config(timeout_seconds=17))
    assert model.timeout == 17
