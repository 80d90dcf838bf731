"""The built-in chain `assistant`: a sequence to everyone who listens, and quick to others."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableSequence
from langchain_core.tracers.context import collect_runs

from chat.chains import assistant
from chat.chains.build_context import BuildContext
from chat.providers.chat_model import ResilientChatModel

ANSWER = "A headrace leads water to a mill."


class Listener(BaseCallbackHandler):
    """Notes the runs that begin, the tokens, and the inputs of models."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.tokens: list[str] = []
        self.inputs: list[BaseMessage] = []

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.began.append(kwargs["name"])

    def on_chat_model_start(
        self, serialized: Any, messages: list[list[BaseMessage]], **kwargs: Any
    ) -> None:
        self.began.append("model")
        self.inputs += messages[0]

    def on_llm_new_token(self, token: str | list[Any], **kwargs: Any) -> None:
        self.tokens.append(str(token))


def chain_of(*answers: str) -> RunnableSequence[Any, Any]:
    """Return the chain with a model that has these answers, word by word in a stream."""
    context = BuildContext(
        slug="x", version=1, runnable="assistant", model_name="fake:x", system_prompt="Be brief."
    )
    model = GenericFakeChatModel(messages=iter(AIMessage(answer) for answer in answers))
    context.__dict__["model"] = ResilientChatModel(names=["fake"], candidates=[model])
    built: Any = assistant.build(context)
    return built


def as_sequence(chain: RunnableSequence[Any, Any]) -> Runnable[Any, Any]:
    """Return LangChain's own sequence of the same steps."""
    return chain.first | chain.last


def test_it_has_the_schemas_of_the_sequence() -> None:
    chain = chain_of()
    sequence = as_sequence(chain)
    assert chain.get_input_jsonschema() == sequence.get_input_jsonschema()
    assert chain.get_output_jsonschema() == sequence.get_output_jsonschema()
    assert chain.get_config_jsonschema() == sequence.get_config_jsonschema()
    assert chain.get_name() == sequence.get_name()


@pytest.mark.parametrize("value", ["Why?", {"messages": [HumanMessage("Why?")]}])
def test_it_answers_as_the_sequence_does(value: Any) -> None:
    message = chain_of(ANSWER).invoke(value)
    expected = as_sequence(chain_of(ANSWER)).invoke(value)
    assert message.id.startswith("lc_run--")
    assert expected.id.startswith("lc_run--")
    unnamed = [one.model_copy(update={"id": None}) for one in (message, expected)]
    assert unnamed[0] == unnamed[1]


def test_it_streams_as_the_sequence_does() -> None:
    chunks: list[AIMessageChunk] = list(chain_of(ANSWER).stream("Why?"))
    expected: list[AIMessageChunk] = list(as_sequence(chain_of(ANSWER)).stream("Why?"))
    assert len(chunks) > 5
    assert [c.model_dump(exclude={"id"}) for c in chunks] == [
        c.model_dump(exclude={"id"}) for c in expected
    ]
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_handler_of_the_config_hears_all_steps() -> None:
    for call in ("invoke", "stream"):
        listener = Listener()
        result = getattr(chain_of(ANSWER), call)("Why?", {"callbacks": [listener]})
        if call == "stream":
            assert "".join(chunk.content for chunk in result) == ANSWER
            assert "".join(listener.tokens) == ANSWER
        assert listener.began == ["RunnableSequence", "prompt", "model"]
        assert [message.content for message in listener.inputs] == ["Be brief.", "Why?"]


def test_a_tracer_of_the_context_hears_all_steps() -> None:
    for call in ("invoke", "stream"):
        with collect_runs() as collected:
            list(getattr(chain_of(ANSWER), call)("Why?"))
        [run] = collected.traced_runs
        assert run.name == "RunnableSequence"
        assert [child.name for child in run.child_runs] == ["prompt", "ResilientChatModel"]


def test_a_handler_of_the_model_hears_it() -> None:
    chain = chain_of(ANSWER)
    listener = Listener()
    model: Any = chain.last
    model.callbacks = [listener]
    chain.invoke("Why?")
    assert listener.began == ["model"]


def test_parts_of_a_content_are_translated_as_by_langchain() -> None:
    parts: list[str | dict[Any, Any]] = [{"type": "text", "text": "Why?"}]
    chain = chain_of(ANSWER)
    assert chain.invoke({"messages": [HumanMessage(content=parts)]}).content == ANSWER


def test_a_teams_sequence_stays_langchains() -> None:
    longer = chain_of(ANSWER) | (lambda message: message.content.upper())
    assert type(longer) is RunnableSequence
    assert longer.invoke("Why?") == ANSWER.upper()
