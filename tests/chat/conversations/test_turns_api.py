"""Conversations in which two speak at once, or an answer fails half-way."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chat.talks import history, say, start
from tests.provider import WORDS, Provider
from tests.support.calls import chat_body, error_of, read_events
from tests.support.waiting import slack


# --- Two at once --------------------------------------------------------------------------------
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_second_message_at_once_gets_a_retry_after(
    http: httpx.Client, provider: Provider, marker: str, is_stream: bool
) -> None:
    conversation = start(http, "provider-slow-stream")
    answers = []
    first = threading.Thread(target=lambda: answers.append(say(http, conversation, marker)))
    first.start()
    provider.wait_for_call(marker)
    second = say(http, conversation, "Me too", stream=is_stream)
    first.join()
    error_of(second, 409, "conversation_busy")
    assert int(second.headers["retry-after"]) >= 1
    assert second.headers.get("x-should-retry") != "false"
    assert answers[0].status_code == 201
    assert [m["content"] for m in history(http, conversation)] == [marker, "".join(WORDS)]
    assert say(http, conversation, "Now?").status_code == 201


def test_many_messages_at_once_never_interleave(http: httpx.Client) -> None:
    conversation = start(http, "provider-hello")
    statuses: list[int] = []

    def talk(number: int) -> None:
        statuses.extend(say(http, conversation, f"{number}-{i}").status_code for i in range(4))

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {201, 409}
    kept = history(http, conversation, limit=100)
    assert [m["role"] for m in kept] == ["user", "assistant"] * statuses.count(201)
    assert {m["content"] for m in kept[1::2]} == {"Hello there."}


# --- What fails half-way ------------------------------------------------------------------------
def test_a_stream_that_breaks_midway_is_stored_as_incomplete_and_goes_on(
    http: httpx.Client, provider: Provider, save_chains: Any, marker: str
) -> None:
    row = {
        "slug": f"mends-{marker[-8:]}",
        "runnable": "assistant",
        "model": "openai:reset-mid-stream",
        "base_url": provider.base_url,
    }
    save_chains(row)
    conversation = start(http, row["slug"])
    response = say(http, conversation, "First", stream=True)
    events = list(read_events(response))
    assert [name for name, _ in events] == ["question", "delta", "delta", "delta", "error"]
    assert events[-1][1]["error"]["code"] == "provider_unreachable"
    question, partial = history(http, conversation)
    assert (partial["status"], partial["content"]) == ("incomplete", "One two three ")
    assert partial["error_code"] == "provider_unreachable"
    assert partial["usage"] is None
    assert question["status"] == "completed"

    save_chains({**row, "model": "openai:echo"})
    answer = say(http, conversation, "Second")
    assert answer.status_code == 201
    sent = json.loads(answer.json()["content"])["messages"]
    # The model does not take half an answer for its own finished words.
    assert [m["content"] for m in sent] == ["First", "Second"]
    assert len(history(http, conversation)) == 4


@pytest.mark.parametrize(("model", "status"), [("provider-fail-500", 502), ("broken", 500)])
def test_an_answer_that_never_began_leaves_the_question_and_a_free_conversation(
    http: httpx.Client, model: str, status: int
) -> None:
    conversation = start(http, model)
    assert say(http, conversation, "One").status_code == status
    assert say(http, conversation, "Two", stream=True).status_code == status
    # Had the lease stayed, this would be a 409.
    assert say(http, conversation, "Three").status_code == status
    assert [m["content"] for m in history(http, conversation)] == ["One", "Two", "Three"]


def test_a_client_that_leaves_midway_frees_the_conversation(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    conversation = start(http, "provider-stall-mid-stream")
    path = f"/v1/conversations/{conversation}/messages"
    with http.stream("POST", path, json={"content": marker, "stream": True}) as response:
        for _, data in read_events(response):
            if data.get("content") == "three ":
                break
    upstream = provider.wait_for_call(marker)
    left_at = time.monotonic()
    assert provider.seconds_until_hung_up(upstream, since=left_at) < 1.5
    while len(kept := history(http, conversation)) < 2:
        assert time.monotonic() - left_at < slack(2)
        time.sleep(0.05)
    assert kept[1]["status"] == "incomplete"
    assert kept[1]["content"] == "One two three "
    assert kept[1]["error_code"] == "client_closed_request"
    with http.stream("POST", path, json={"content": "again", "stream": True}) as response:
        assert response.status_code == 201


@pytest.mark.parametrize("is_stream", [False, True])
def test_deleting_during_an_answer_loses_it_and_nothing_else(
    http: httpx.Client, provider: Provider, marker: str, is_stream: bool
) -> None:
    conversation = start(http, "provider-slow-stream")
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(say(http, conversation, marker, stream=is_stream))
    )
    thread.start()
    provider.wait_for_call(marker)
    assert http.delete(f"/v1/conversations/{conversation}").status_code == 200
    thread.join()
    if is_stream:
        events = list(read_events(answers[0]))
        assert events[-1][1]["error"]["code"] == "conversation_lost"
    else:
        error_of(answers[0], 409, "conversation_lost")
        # The SDKs would try a 409 again, and there is nothing left to try.
        assert answers[0].headers["x-should-retry"] == "false"
    assert http.get(f"/v1/conversations/{conversation}/messages").status_code == 404


def test_changing_metadata_during_an_answer_disturbs_nothing(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    conversation = start(http, "provider-slow-stream")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(say(http, conversation, marker)))
    thread.start()
    provider.wait_for_call(marker)
    path = f"/v1/conversations/{conversation}"
    assert http.patch(path, json={"metadata": {"a": "b"}}).status_code == 200
    assert say(http, conversation, "no").status_code == 409
    thread.join()
    assert answers[0].status_code == 201
    assert http.get(path).json()["metadata"] == {"a": "b"}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(public_id=st.text(max_size=45))
def test_no_conversation_id_is_a_500(http: httpx.Client, public_id: str) -> None:
    try:
        url = httpx.URL(f"{http.base_url}v1/conversations/").join(f"./{public_id}")
    except (httpx.InvalidURL, ValueError, UnicodeError):
        return
    if url.host != http.base_url.host:
        return
    assert http.get(url).status_code < 500


def test_reading_messages_takes_no_place_among_the_keys_calls(
    make_http: Any, provider: Provider, marker: str, chains: None
) -> None:
    http = make_http("single for reading")
    conversation = start(http, "provider-slow-stream")
    thread = threading.Thread(target=lambda: say(http, conversation, marker))
    thread.start()
    provider.wait_for_call(marker)
    assert len(history(http, conversation)) == 1
    refused = http.post("/v1/chat/completions", json=chat_body("provider-hello"))
    assert refused.status_code == 429
    thread.join()
