"""What servers send: each form is read as what it means, in a stream and as a unary answer."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks

from chat.errors import ProviderError, UnreadableAnswer
from chat.providers.errors import to_provider_error
from chat.providers.openai_compatible import OpenAICompatibleChatModel
from chat.providers.openai_compatible.errors import Unreachable
from chat.providers.openai_compatible.usage import usage_metadata
from tests.chat.providers.openai_compatible.conftest import MakeModel
from tests.provider import SECRET, USAGE
from tests.provider.dialects import BIG, TEXT
from tests.provider.tool_dialects import ONE, TWO

both = pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
TOKENS = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


def ask(model: OpenAICompatibleChatModel, is_stream: bool) -> AIMessage:
    """Return a model's answer, of its joined chunks if it streams."""
    if not is_stream:
        return model.invoke("Hello")
    first, *others = model.stream("Hello")
    joined: AIMessageChunk = add_ai_message_chunks(first, *others)
    return joined


def calls_in(answer: AIMessage) -> list[tuple[str | None, str, Any]]:
    """Return the tool calls as id, name and arguments; as text where they are streamed."""
    if isinstance(answer, AIMessageChunk):
        return [(c["id"], c["name"] or "", c["args"]) for c in answer.tool_call_chunks]
    raw = answer.additional_kwargs["tool_calls"]
    return [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in raw]


# --- Events -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name",
    [
        *("crlf", "carriage-returns", "comments", "no-space", "several-data-lines", "no-done"),
        *("no-last-line-end", "single-bytes", "byte-order-mark", "plain-text-events"),
        *("json-for-a-stream", "compressed", "reason-in-each-chunk", "reset-after-the-reason"),
    ],
)
def test_a_stream_in_any_form_is_read(make_model: MakeModel, name: str) -> None:
    answer = ask(make_model(name), is_stream=True)
    assert answer.content == TEXT
    assert answer.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("name", ["byte-order-mark", "compressed", "events-for-unary"])
def test_a_unary_answer_in_any_form_is_read(make_model: MakeModel, name: str) -> None:
    answer = ask(make_model(name), is_stream=False)
    assert answer.content == TEXT
    assert answer.response_metadata["finish_reason"] == "stop"


@both
def test_interim_answers_are_skipped(make_model: MakeModel, is_stream: bool) -> None:
    assert ask(make_model("early-hints"), is_stream).content == "Hello there."


# --- Members of an answer -----------------------------------------------------------------------
@both
@pytest.mark.parametrize("name", ["reasoning-content", "reasoning", "thinking-parts"])
def test_reasoning_is_apart_from_the_text(
    make_model: MakeModel, name: str, is_stream: bool
) -> None:
    answer = ask(make_model(name), is_stream)
    assert answer.content == "42"
    assert answer.additional_kwargs["reasoning_content"] == "Six by nine."


@both
def test_a_refusal_is_passed_on(make_model: MakeModel, is_stream: bool) -> None:
    answer = ask(make_model("refusing"), is_stream)
    assert answer.content == ""
    assert answer.additional_kwargs["refusal"] == "Not that."


@both
def test_log_probabilities_are_passed_on(make_model: MakeModel, is_stream: bool) -> None:
    answer = ask(make_model("log-probabilities"), is_stream)
    assert answer.content == "a"
    assert answer.response_metadata["logprobs"]["content"][0]["logprob"] == float("-inf")


@both
def test_of_several_choices_the_first_is_taken(make_model: MakeModel, is_stream: bool) -> None:
    assert ask(make_model("several-choices"), is_stream).content == "first"


def test_halves_of_a_character_are_joined_and_lone_ones_replaced(make_model: MakeModel) -> None:
    assert ask(make_model("half-emoji"), is_stream=True).content == "a🌊b\ufffd"


# --- Tool calls ---------------------------------------------------------------------------------
@both
@pytest.mark.parametrize("name", ["calls-without-index", "calls-of-one-index"])
def test_calls_are_apart_by_their_ids(make_model: MakeModel, name: str, is_stream: bool) -> None:
    found = calls_in(ask(make_model(name), is_stream))
    assert found == [("tc_1", "lookup", ONE), ("tc_2", "lookup", TWO)]


@both
@pytest.mark.parametrize("name", ["calls-without-anything", "calls-with-index-without-id"])
def test_calls_without_ids_get_ids_of_their_own(
    make_model: MakeModel, name: str, is_stream: bool
) -> None:
    model = make_model(name)
    answers = [calls_in(ask(model, is_stream)) for _ in range(2)]
    for found in answers:
        assert [call[1:] for call in found] == [("lookup", ONE), ("lookup", TWO)]
    ids = [call[0] for found in answers for call in found]
    assert all(ids)
    assert len(set(ids)) == 4


@both
def test_the_indexes_of_a_streams_calls_are_their_positions(
    make_model: MakeModel, is_stream: bool
) -> None:
    chunks = list(make_model("calls-of-one-index").stream("x"))
    pieces = [piece for chunk in chunks for piece in chunk.tool_call_chunks]
    assert [piece["index"] for piece in pieces] == [0, 0, 1, 1]


@both
@pytest.mark.parametrize("name", ["call-cut", "call-cut-in-events"])
def test_cut_arguments_stay_as_they_came(make_model: MakeModel, name: str, is_stream: bool) -> None:
    answer = ask(make_model(name), is_stream)
    assert calls_in(answer) == [("tc_1", "lookup", '{"note": "buy mi')]
    assert answer.response_metadata["finish_reason"] == "length"
    if not is_stream:
        assert answer.tool_calls == []
        assert answer.invalid_tool_calls[0]["args"] == '{"note": "buy mi'
        assert answer.usage_metadata == TOKENS


@both
def test_arguments_that_come_twice_count_once(make_model: MakeModel, is_stream: bool) -> None:
    answer = ask(make_model("call-doubled"), is_stream)
    assert calls_in(answer) == [("tc_1", "lookup", ONE)]
    assert answer.tool_calls[0]["args"] == {"q": "one"}


@both
@pytest.mark.parametrize("name", ["call-object", "call-big-integer"])
def test_integers_are_exact(make_model: MakeModel, name: str, is_stream: bool) -> None:
    answer = ask(make_model(name), is_stream)
    assert answer.tool_calls[0]["args"]["id"] == BIG
    assert f'"id": {BIG}' in calls_in(answer)[0][2]


@both
def test_a_call_without_arguments_has_none(make_model: MakeModel, is_stream: bool) -> None:
    assert ask(make_model("call-null"), is_stream).tool_calls[0]["args"] == {}


# --- Usage and finish reasons -------------------------------------------------------------------
@pytest.mark.parametrize("name", ["usage-in-each-chunk", "usage-twice"])
def test_the_last_usage_counts(make_model: MakeModel, name: str) -> None:
    assert ask(make_model(name), is_stream=True).usage_metadata == TOKENS


def test_a_usage_of_nulls_is_none(make_model: MakeModel) -> None:
    assert ask(make_model("usage-null"), is_stream=True).usage_metadata is None


def test_details_of_a_usage_are_passed_on() -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": True},
    }
    found = usage_metadata({**USAGE, **details})
    assert found == {
        **TOKENS,
        "input_token_details": {"cache_read": 5},
        "output_token_details": {"reasoning": 3},
    }


@pytest.mark.parametrize("count", [-1, 1e300, float("nan"), "7", True, [7], None])
def test_what_is_no_count_is_none(count: Any) -> None:
    assert usage_metadata({"prompt_tokens": count, "completion_tokens": count}) is None


def test_a_stream_without_a_reason_has_none(make_model: MakeModel) -> None:
    answer = ask(make_model("no-reason"), is_stream=True)
    assert answer.content == TEXT
    assert "finish_reason" not in answer.response_metadata


def test_a_stream_without_a_reason_and_an_end_is_broken(make_model: MakeModel) -> None:
    with pytest.raises(Unreachable):
        ask(make_model("ends-mid-stream"), is_stream=True)


@both
def test_the_reason_error_is_an_error(make_model: MakeModel, is_stream: bool) -> None:
    assert error_of(make_model("reason-error"), is_stream).code == "provider_error"


# --- Errors -------------------------------------------------------------------------------------
def error_of(model: OpenAICompatibleChatModel, is_stream: bool) -> ProviderError:
    """Return the client's view of the exception that a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        ask(model, is_stream)
    assert SECRET not in f"{caught.value!r} {caught.value}"
    error = to_provider_error(caught.value)
    assert error is not None
    return error


@both
@pytest.mark.parametrize(
    ("name", "status", "code", "is_transient"),
    [
        ("busy-in-200", 503, "provider_overloaded", True),
        ("quota-429", 502, "provider_misconfigured", False),
        ("overloaded-529", 503, "provider_overloaded", True),
        ("context-vllm", 400, "context_length_exceeded", False),
        ("context-old-vllm", 400, "context_length_exceeded", False),
        ("context-llama-cpp", 400, "context_length_exceeded", False),
        ("context-413", 400, "context_length_exceeded", False),
        ("error-list", 400, "context_length_exceeded", False),
        ("filter-azure", 400, "content_filter", False),
        ("error-text", 502, "provider_error", True),
        ("html", 502, "provider_bad_answer", False),
        ("bad-json", 502, "provider_bad_answer", False),
        ("no-choices", 502, "provider_bad_answer", False),
    ],
)
def test_errors_are_known_by_what_they_mean(
    *, make_model: MakeModel, name: str, status: int, code: str, is_transient: bool, is_stream: bool
) -> None:
    error = error_of(make_model(name), is_stream)
    assert (error.status, error.code, error.is_transient) == (status, code, is_transient)


def test_an_event_named_error_is_an_error(make_model: MakeModel) -> None:
    assert error_of(make_model("named-error-event"), is_stream=True).code == "provider_overloaded"


def test_a_date_until_which_a_provider_is_busy_is_read(make_model: MakeModel) -> None:
    error = error_of(make_model("busy-until-a-date"), is_stream=False)
    assert error.retry_after_seconds == 3600


def test_a_redirect_is_no_answer(make_model: MakeModel) -> None:
    with pytest.raises(UnreadableAnswer):
        ask(make_model("redirecting"), is_stream=False)
