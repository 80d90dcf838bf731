"""Answers that are more than text: refusals, reasoning, half characters and half calls."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.odd_chunks import BIG, CITATION, CUT
from tests.support.calls import chat_body, read_events

CHAT = "/v1/chat/completions"


def answer(http: httpx.Client, how: str) -> dict[str, Any]:
    """Return the only choice of an answer that is not streamed."""
    response = http.post(CHAT, json=chat_body("odd", how))
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def deltas(http: httpx.Client, how: str) -> list[dict[str, Any]]:
    """Return the deltas of a streamed answer, without its first and last."""
    with http.stream("POST", CHAT, json=chat_body("odd", how, stream=True)) as response:
        events = [data for _, data in read_events(response)]
    assert events.pop() == "[DONE]"
    return [event["choices"][0]["delta"] for event in events[1:-1]]


def test_a_refusal_has_its_words(http: httpx.Client, sdk: openai.OpenAI) -> None:
    message = answer(http, "refusal")["message"]
    assert (message["content"], message["refusal"]) == (None, "I cannot.")
    assert deltas(http, "refusal") == [{"refusal": "I "}, {"refusal": "cannot."}]
    messages: Any = [{"role": "user", "content": "refusal"}]
    with sdk.chat.completions.stream(model="odd", messages=messages) as stream:
        final = stream.get_final_completion().choices[0].message
    assert final.refusal == "I cannot."
    # It is taken back as the SDK has it.
    again: Any = [final.model_dump(), {"role": "user", "content": "refusal"}]
    sdk.chat.completions.create(model="odd", messages=again)


def test_text_and_a_refusal_stay_apart(http: httpx.Client) -> None:
    message = answer(http, "text and refusal")["message"]
    assert (message["content"], message["refusal"]) == ("Well. ", "No.")


def test_reasoning_and_annotations_are_passed_on(http: httpx.Client) -> None:
    message = answer(http, "reasoning")["message"]
    assert (message["content"], message["reasoning_content"]) == ("4", "Hm so.")
    assert deltas(http, "reasoning") == [
        {"reasoning_content": "Hm "},
        {"reasoning_content": "so."},
        {"content": "4"},
    ]
    assert answer(http, "citation")["message"]["annotations"] == [CITATION]
    assert {"annotations": [CITATION]} in deltas(http, "citation")


def test_halves_of_a_character_are_joined_and_a_lone_one_is_replaced(http: httpx.Client) -> None:
    assert answer(http, "half pair")["message"]["content"] == "yes 🌊 no \ufffd"
    texts = [delta["content"] for delta in deltas(http, "half pair")]
    assert texts == ["yes ", "🌊 no ", "\ufffd"]


@pytest.mark.parametrize(("how", "text"), [("cut call", CUT), ("big call", BIG)])
def test_the_arguments_of_a_call_are_as_the_model_wrote_them(
    http: httpx.Client, how: str, text: str
) -> None:
    choice = answer(http, how)
    (call,) = choice["message"]["tool_calls"]
    assert (call["id"], call["function"]) == ("c1", {"name": "store", "arguments": text})
    assert choice["finish_reason"] == ("length" if how == "cut call" else "tool_calls")
    pieces = [delta["tool_calls"][0]["function"]["arguments"] for delta in deltas(http, how)]
    assert "".join(pieces) == text


@pytest.mark.parametrize("how", ["same index", "no index"])
def test_two_calls_are_two_to_the_sdk(sdk: openai.OpenAI, how: str) -> None:
    messages: Any = [{"role": "user", "content": how}]
    with sdk.chat.completions.stream(model="odd", messages=messages) as stream:
        calls: Any = stream.get_final_completion().choices[0].message.tool_calls
    found = [(call.id, json.loads(call.function.arguments)["q"]) for call in calls]
    assert found == [("c1", "one"), ("c2", "two")]
