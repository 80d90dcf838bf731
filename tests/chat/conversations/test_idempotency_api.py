"""Messages that are sent again with their `Idempotency-Key`, over HTTP."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from tests.chat.talks import history, start
from tests.provider import WORDS, Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import error_of, read_events
from tests.support.waiting import slack

# How long a node may take to see that a client has left.
LEFT_SECONDS = 3.0
EXPIRE_KEY = """
UPDATE access_idempotencykey SET lease_until = now() - interval '1 second'
WHERE key = %s AND NOT is_done
"""
EXPIRE_TURN = """
UPDATE chat_conversation SET lease_until = now() - interval '1 second' WHERE id = %s
"""


@pytest.fixture
def key() -> str:
    """A key that no other test has used."""
    return f"test {uuid.uuid4()}"


def say(
    http: httpx.Client, conversation: str, content: str, key: str, **more: Any
) -> httpx.Response:
    """Post a message with a key."""
    return http.post(
        f"/v1/conversations/{conversation}/messages",
        json={"content": content, **more},
        headers={"Idempotency-Key": key},
    )


def is_replayed(response: httpx.Response) -> bool:
    """Return whether this is the answer of an earlier request."""
    assert response.headers.get("idempotent-replayed") in (None, "true")
    return "idempotent-replayed" in response.headers


def events_of(response: httpx.Response) -> list[tuple[str, Any]]:
    """Return a stream's events without its heartbeats."""
    assert response.headers["content-type"].startswith("text/event-stream")
    return [(name, data) for name, data in read_events(response) if name != ":"]


def call_count(provider: Provider, marker: str) -> int:
    """Return how often the model was called."""
    return sum(call.text == marker for call in provider.calls)


# --- The same message again ---------------------------------------------------------------------
def test_the_first_answer_comes_again_and_the_model_is_called_once(
    http: httpx.Client, provider: Provider, marker: str, key: str
) -> None:
    conversation = start(http, "provider-hello")
    first = say(http, conversation, marker, key)
    assert first.status_code == 201
    assert not is_replayed(first)
    for _ in range(4):
        again = say(http, conversation, marker, key)
        assert (again.status_code, again.json()) == (201, first.json())
        assert is_replayed(again)
    assert call_count(provider, marker) == 1
    assert [message["content"] for message in history(http, conversation)] == [
        marker,
        "Hello there.",
    ]


def test_without_a_key_every_message_is_a_new_one(http: httpx.Client) -> None:
    conversation = start(http, "provider-hello")
    for _ in range(2):
        response = http.post(
            f"/v1/conversations/{conversation}/messages", json={"content": "Hello"}
        )
        assert not is_replayed(response)
    assert len(history(http, conversation)) == 4


def test_a_streamed_answer_comes_again_as_a_stream_or_as_json(
    http: httpx.Client, provider: Provider, marker: str, key: str
) -> None:
    conversation = start(http, "provider-hello")
    first = say(http, conversation, marker, key, stream=True)
    names = [name for name, _ in events_of(first)]
    assert names == ["question", "delta", "delta", "message"]
    assert not is_replayed(first)
    question, *_, message = (data for _, data in events_of(first))

    streamed = say(http, conversation, marker, key, stream=True)
    assert streamed.status_code == 201
    assert is_replayed(streamed)
    assert events_of(streamed) == [
        ("question", question),
        ("delta", {"content": "Hello there."}),
        ("message", message),
    ]
    plain = say(http, conversation, marker, key)
    assert (plain.status_code, plain.json()) == (201, message)
    assert is_replayed(plain)
    assert call_count(provider, marker) == 1


def test_an_answer_in_json_comes_again_as_a_stream(http: httpx.Client, key: str) -> None:
    conversation = start(http, "provider-hello")
    first = say(http, conversation, "Hello", key).json()
    events = events_of(say(http, conversation, "Hello", key, stream=True))
    assert [name for name, _ in events] == ["question", "delta", "message"]
    assert events[0][1]["content"] == "Hello"
    assert events[-1][1] == first


def test_the_answer_comes_again_from_any_node_and_after_the_chain_is_gone(
    http: httpx.Client, nodes: list[httpx.Client], key: str, save_chains: Any
) -> None:
    row = {"slug": "fading-with-key", "runnable": "echo"}
    save_chains(row)
    conversation = start(http, "fading-with-key")
    first = say(http, conversation, "one", key)
    save_chains({**row, "is_enabled": False})
    for node in nodes:
        again = say(node, conversation, "one", key)
        assert is_replayed(again)
        assert again.json() == first.json()


# --- What a key is not good for -----------------------------------------------------------------
def test_another_message_with_the_same_key_is_refused(http: httpx.Client, key: str) -> None:
    conversation = start(http, "provider-hello")
    say(http, conversation, "one", key)
    error_of(say(http, conversation, "two", key), 422, "idempotency_key_reused")
    error_of(say(http, start(http), "one", key), 422, "idempotency_key_reused")
    assert len(history(http, conversation)) == 2


def test_a_key_is_the_account_s_own(http: httpx.Client, other_http: httpx.Client, key: str) -> None:
    for client in (http, other_http):
        response = say(client, start(client, "provider-hello"), "Hello", key)
        assert response.status_code == 201
        assert not is_replayed(response)


def test_the_answer_goes_with_its_conversation(http: httpx.Client, key: str) -> None:
    conversation = start(http, "provider-hello")
    say(http, conversation, "Hello", key)
    http.delete(f"/v1/conversations/{conversation}")
    error_of(say(http, conversation, "Hello", key), 404, "conversation_not_found")


@pytest.mark.parametrize("bad", ["", "x" * 256, "\xfc"])
def test_a_key_that_is_none_is_refused(http: httpx.Client, bad: str) -> None:
    conversation = start(http, "provider-hello")
    response = http.post(
        f"/v1/conversations/{conversation}/messages",
        json={"content": "Hello"},
        headers=[(b"Idempotency-Key", bad.encode("latin-1"))],
    )
    error = error_of(response, 400, "invalid_idempotency_key")
    assert error["param"] == "Idempotency-Key"
    assert history(http, conversation) == []


# --- While the first is under way ---------------------------------------------------------------
@pytest.mark.parametrize("is_stream", [False, True])
def test_of_two_at_the_same_instant_one_is_answered(
    http: httpx.Client, provider: Provider, marker: str, key: str, is_stream: bool
) -> None:
    conversation = start(http, "provider-slow-stream")
    barrier = threading.Barrier(2)

    def send() -> httpx.Response:
        barrier.wait()
        return say(http, conversation, marker, key, stream=is_stream)

    with ThreadPoolExecutor(2) as pool:
        responses = [future.result() for future in [pool.submit(send) for _ in range(2)]]
    answered, refused = sorted(responses, key=lambda response: response.status_code)
    assert answered.status_code == 201
    error_of(refused, 409, "idempotency_key_in_use")
    assert int(refused.headers["retry-after"]) >= 1
    again = say(http, conversation, marker, key)
    assert is_replayed(again)
    assert again.json()["content"] == "".join(WORDS)
    assert call_count(provider, marker) == 1
    assert len(history(http, conversation)) == 2


def test_a_killed_node_s_key_is_free_after_its_lease(
    http: httpx.Client, stack: EmbeddedStack, key: str, marker: str
) -> None:
    conversation = start(http, "provider-slow-stream")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(say, http, conversation, marker, key)
        time.sleep(0.4)
        error_of(say(http, conversation, marker, key), 409, "idempotency_key_in_use")
        # As if its node were dead and renewed nothing.
        with psycopg.connect(stack.database_url, autocommit=True) as connection:
            connection.execute(EXPIRE_TURN, [conversation.removeprefix("conv_")])
            assert connection.execute(EXPIRE_KEY, [key]).rowcount == 1
        second = say(http, conversation, marker, key)
        error_of(first.result(), 409, "conversation_lost")
    assert second.status_code == 201
    again = say(http, conversation, marker, key)
    assert is_replayed(again)
    assert again.json() == second.json()


# --- Failures -----------------------------------------------------------------------------------
@pytest.mark.parametrize("is_stream", [False, True])
def test_after_a_failure_the_message_is_tried_again(
    http: httpx.Client, key: str, is_stream: bool, save_chains: Any, provider: Provider
) -> None:
    row = {
        "slug": f"recovers-{is_stream}".lower(),
        "runnable": "assistant",
        "base_url": provider.base_url,
    }
    save_chains({**row, "model": "openai:fail-500"})
    conversation = start(http, row["slug"])
    error_of(say(http, conversation, "Hello", key, stream=is_stream), 502, "provider_error")
    save_chains({**row, "model": "openai:hello"})
    answered = say(http, conversation, "Hello", key)
    assert answered.status_code == 201
    assert not is_replayed(answered)
    assert is_replayed(say(http, conversation, "Hello", key))


def test_after_a_stream_that_broke_the_message_is_tried_again(
    http: httpx.Client, provider: Provider, marker: str, key: str
) -> None:
    conversation = start(http, "provider-error-mid-stream")
    for count in (1, 2):
        response = say(http, conversation, marker, key, stream=True)
        assert not is_replayed(response)
        assert events_of(response)[-1][0] == "error"
        assert call_count(provider, marker) == count


def test_a_client_that_left_may_send_its_message_again(
    http: httpx.Client, key: str, marker: str
) -> None:
    conversation = start(http, "provider-slow-stream")
    path = f"/v1/conversations/{conversation}/messages"
    body = {"content": marker, "stream": True}
    with http.stream("POST", path, json=body, headers={"Idempotency-Key": key}) as response:
        next(response.iter_lines())
    deadline = time.monotonic() + slack(LEFT_SECONDS)
    while (again := say(http, conversation, marker, key)).status_code == 409:
        assert time.monotonic() < deadline
        # Never the conversation: it is free before the key is.
        error_of(again, 409, "idempotency_key_in_use")
        time.sleep(0.05)
    assert again.status_code == 201
    assert not is_replayed(again)
    assert again.json()["content"] == "".join(WORDS)


def test_a_request_that_is_at_fault_takes_no_key(http: httpx.Client, key: str) -> None:
    conversation = start(http, "provider-hello")
    assert say(http, conversation, "", key).status_code == 400
    assert say(http, conversation, "Hello", key, nonsense=1).status_code == 400
    assert say(http, f"conv_{'0' * 32}", "Hello", key).status_code == 404
    assert say(http, conversation, "Hello", key).status_code == 201


def test_a_busy_conversation_takes_no_key(http: httpx.Client, key: str) -> None:
    conversation = start(http, "provider-slow-stream")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(say, http, conversation, "first", f"{key} 1")
        time.sleep(0.4)
        error_of(say(http, conversation, "second", f"{key} 2"), 409, "conversation_busy")
        assert first.result().status_code == 201
    second = say(http, conversation, "second", f"{key} 2")
    assert second.status_code == 201
    assert not is_replayed(second)
