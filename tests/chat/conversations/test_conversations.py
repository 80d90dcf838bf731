"""Conversations that Headrace stores, over HTTP."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import httpx
import pytest

from tests.chat.talks import history, say, start
from tests.provider import USAGE, WORDS
from tests.support.calls import error_of, read_events


def walk(http: httpx.Client, path: str, **query: Any) -> list[str]:
    """Return the ids of all pages of a list."""
    ids: list[str] = []
    while True:
        page = http.get(path, params={**query, **({"after": ids[-1]} if ids else {})}).json()
        assert page["object"] == "list"
        found = [item["id"] for item in page["data"]]
        assert page["first_id"] == (found[0] if found else None)
        assert page["last_id"] == (found[-1] if found else None)
        ids += found
        if not page["has_more"]:
            return ids
        assert len(found) == int(query["limit"])


# --- Make, read, change, delete -----------------------------------------------------------------
def test_a_conversation_is_made_read_changed_and_deleted(http: httpx.Client) -> None:
    response = http.post(
        "/v1/conversations", json={"chain": "provider-hello", "metadata": {"topic": "birds"}}
    )
    made = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/conversations/{made['id']}"
    assert made["object"] == "conversation"
    assert made["chain"] == "provider-hello"
    assert made["metadata"] == {"topic": "birds"}
    assert abs(made["created_at"] - time.time()) < 60
    prefix, _, digits = made["id"].partition("_")
    assert prefix == "conv"
    assert uuid.UUID(digits).version == 7

    path = f"/v1/conversations/{made['id']}"
    assert http.get(path).json() == made
    changed = http.patch(path, json={"metadata": {"mood": "good"}}).json()
    assert changed == {**made, "metadata": {"mood": "good"}}
    assert http.get(path).json() == changed
    deleted = http.delete(path)
    assert deleted.json() == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
    for response in (http.get(path), http.delete(path), http.patch(path, json={"metadata": {}})):
        error_of(response, 404, "conversation_not_found")
    error_of(say(http, made["id"], "hi"), 404, "conversation_not_found")


def test_ids_are_time_ordered(http: httpx.Client) -> None:
    made = [start(http) for _ in range(5)]
    assert made == sorted(made)


def test_a_conversation_needs_a_chain_that_is_enabled(http: httpx.Client) -> None:
    for chain in ("disabled", "no-such-chain"):
        error_of(http.post("/v1/conversations", json={"chain": chain}), 404, "model_not_found")


def test_a_chain_that_was_disabled_answers_no_more(http: httpx.Client, save_chains: Any) -> None:
    row = {"slug": "fading", "runnable": "echo"}
    save_chains(row)
    conversation = start(http, "fading")
    assert say(http, conversation, "one").status_code == 201
    save_chains({**row, "is_enabled": False})
    error_of(say(http, conversation, "two"), 404, "model_not_found")
    assert len(history(http, conversation)) == 2


@pytest.mark.parametrize(
    "metadata",
    [
        {str(number): "x" for number in range(17)},
        {"k" * 65: "x"},
        {"": "x"},
        {"k": "x" * 513},
        {"k": 1},
        {"k": None},
        {"k": {"nested": "x"}},
        {"k": "a\0b"},
        {"a\0b": "x"},
        ["x"],
    ],
)
def test_metadata_has_limits(http: httpx.Client, metadata: Any) -> None:
    body = {"chain": "provider-echo", "metadata": metadata}
    response = http.post("/v1/conversations", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith("metadata")
    path = f"/v1/conversations/{start(http)}"
    assert http.patch(path, json={"metadata": metadata}).status_code == 400
    assert http.get(path).json()["metadata"] == {}


def test_metadata_that_is_null_says_nothing_where_it_may_be_absent(http: httpx.Client) -> None:
    body = {"chain": "provider-echo", "metadata": None}
    made = http.post("/v1/conversations", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["metadata"] == {}
    path = f"/v1/conversations/{made.json()['id']}"
    assert http.patch(path, json={"metadata": None}).status_code == 400


def test_metadata_up_to_its_limits_comes_back_as_it_was(http: httpx.Client) -> None:
    metadata = {f"{number:064d}": "ü" * 512 for number in range(16)}
    conversation = start(http, metadata=metadata)
    assert http.get(f"/v1/conversations/{conversation}").json()["metadata"] == metadata


# --- Pages of large messages --------------------------------------------------------------------
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_ends_before_its_texts_are_too_large_and_none_is_lost(
    http: httpx.Client, order: str
) -> None:
    conversation = start(http)
    for size in (700_000, 200_000, 10):
        assert say(http, conversation, "x" * size).status_code == 201
    path = f"/v1/conversations/{conversation}/messages"
    pages: list[list[dict[str, Any]]] = []
    query: dict[str, Any] = {"limit": 100, "order": order}
    while True:
        page = http.get(path, params=query).json()
        pages.append(page["data"])
        query["after"] = page["last_id"]
        if not page["has_more"]:
            break
    sizes = [[len(message["content"].encode()) for message in page] for page in pages]
    assert all(len(page) == 1 or sum(page) <= 1_048_576 for page in sizes)
    assert 1 < len(pages) < 6
    positions = [message["id"] for page in pages for message in page]
    assert len(positions) == 6
    assert positions == sorted(positions, reverse=order == "desc")


# --- Whose they are -----------------------------------------------------------------------------
def test_another_accounts_conversation_is_not_there(
    http: httpx.Client, other_http: httpx.Client
) -> None:
    conversation = start(http)
    assert say(http, conversation, "mine").status_code == 201
    message = history(http, conversation)[0]["id"]
    path = f"/v1/conversations/{conversation}"
    attempts = [
        other_http.get(path),
        other_http.patch(path, json={"metadata": {}}),
        other_http.delete(path),
        other_http.get(f"{path}/messages"),
        other_http.get(f"{path}/messages", params={"after": message}),
        other_http.post(f"{path}/messages", json={"content": "yours"}),
        other_http.post(f"{path}/messages", json={"content": "yours", "stream": True}),
    ]
    for response in attempts:
        error_of(response, 404, "conversation_not_found")
    # Just what an id that never was looks like.
    unknown = other_http.get(f"/v1/conversations/conv_{uuid.uuid4().hex}")
    assert unknown.json() == attempts[0].json()
    assert conversation not in walk(other_http, "/v1/conversations", limit=100)
    assert len(history(http, conversation)) == 2


def test_two_keys_of_an_account_share_its_conversations(make_http: Any, chains: None) -> None:
    one, two = make_http("shared 1"), make_http("shared 2")
    conversation = start(one, "provider-hello")
    assert two.get(f"/v1/conversations/{conversation}").status_code == 200
    assert say(two, conversation, "hi").status_code == 201
    assert walk(two, "/v1/conversations", limit=10) == [conversation]


# --- Pages --------------------------------------------------------------------------------------
def test_conversations_come_in_pages_in_both_orders(make_http: Any, chains: None) -> None:
    http = make_http("pages")
    assert walk(http, "/v1/conversations", limit=5) == []
    made = [start(http) for _ in range(7)]
    for limit in (1, 2, 6, 7, 8, 100):
        assert walk(http, "/v1/conversations", limit=limit) == made[::-1]
        assert walk(http, "/v1/conversations", limit=limit, order="desc") == made[::-1]
        assert walk(http, "/v1/conversations", limit=limit, order="asc") == made
    # A row that is gone is still a place in the list.
    http.delete(f"/v1/conversations/{made[3]}")
    page = http.get("/v1/conversations", params={"after": made[3], "order": "asc"}).json()
    assert [item["id"] for item in page["data"]] == made[4:]


def test_messages_come_in_pages_in_both_orders(http: httpx.Client) -> None:
    conversation = start(http, "provider-hello")
    for number in range(4):
        assert say(http, conversation, str(number)).status_code == 201
    path = f"/v1/conversations/{conversation}/messages"
    ids = [message["id"] for message in history(http, conversation)]
    assert len(ids) == 8
    for limit in (1, 3, 7, 8, 9):
        assert walk(http, path, limit=limit) == ids
        assert walk(http, path, limit=limit, order="asc") == ids
        assert walk(http, path, limit=limit, order="desc") == ids[::-1]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=1.0", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=9999999999999999999999", "limit"),
        ("limit=%00", "limit"),
        ("order=up", "order"),
        ("order=", "order"),
        ("after=msg_zz", "after"),
        ("after=conv_" + "0" * 32, "after"),
        ("after=msg_" + "0" * 32, "after"),
        ("after=%00", "after"),
        ("after=%FF", "after"),
    ],
)
def test_a_bad_page_is_refused_by_name(http: httpx.Client, query: str, param: str) -> None:
    conversation = start(http)
    response = http.get(f"/v1/conversations/{conversation}/messages?{query}")
    assert error_of(response, 400, None)["param"] == param


@pytest.mark.parametrize(
    "after", ["conv_zz", "msg_" + "0" * 32, "%00", "conv_" + "0" * 33, "%F0%9F%98%80"]
)
def test_a_bad_cursor_of_conversations_is_no_500(http: httpx.Client, after: str) -> None:
    assert http.get(f"/v1/conversations?after={after}").status_code in (400, 404)


# --- Memory -------------------------------------------------------------------------------------
def test_a_conversation_has_its_earlier_messages(http: httpx.Client) -> None:
    conversation = start(http)
    first = say(http, conversation, "My name is Ada.").json()
    assert first["role"] == "assistant"
    assert first["status"] == "completed"
    assert first["usage"] == USAGE
    assert first["conversation_id"] == conversation
    second = say(http, conversation, "Who am I?").json()
    sent = json.loads(second["content"])["messages"]
    assert [(m["role"], m["content"]) for m in sent] == [
        ("user", "My name is Ada."),
        ("assistant", first["content"]),
        ("user", "Who am I?"),
    ]
    kept = history(http, conversation)
    assert [m["role"] for m in kept] == ["user", "assistant"] * 2
    assert kept[3] == second
    assert all(m["object"] == "conversation.message" for m in kept)
    assert all(m["id"].startswith("msg_") and m["error_code"] is None for m in kept)


def test_the_local_model_holds_a_conversation(http: httpx.Client) -> None:
    conversation = start(http, "terse")
    for text in ("Hello", "And now?"):
        answer = say(http, conversation, text)
        assert answer.status_code == 201
        assert answer.json()["content"]
    usage = [m["usage"] for m in history(http, conversation) if m["role"] == "assistant"]
    # The second prompt holds the first question and answer.
    assert usage[1]["prompt_tokens"] > usage[0]["prompt_tokens"] + 8


def test_text_comes_back_as_it_was_sent(http: httpx.Client) -> None:
    text = "日本語 <script>alert(1)</script> \u202e \x01 'quote\" \\ 😀\r\n\t" + "x" * 50_000
    conversation = start(http)
    answer = say(http, conversation, text).json()
    assert json.loads(answer["content"])["messages"][-1]["content"] == text
    assert history(http, conversation)[0]["content"] == text


def test_a_models_nul_is_left_out_of_the_stored_message(http: httpx.Client) -> None:
    conversation = start(http, "provider-nul")
    for is_stream in (False, True):
        assert say(http, conversation, "x", stream=is_stream).status_code == 201
    assert [m["content"] for m in history(http, conversation)][1::2] == ["ab", "ab"]


@pytest.mark.parametrize(
    "body",
    [
        {"content": ""},
        {"content": "a\0b"},
        {"content": None},
        {"content": 5},
        {"content": ["x"]},
        {"content": "x", "stream": "yes"},
        {"content": "x", "role": "system"},
        {"content": "x" * 1_000_001},
        {},
        [],
        "x",
        None,
    ],
)
def test_a_bad_message_is_refused_and_takes_nothing(http: httpx.Client, body: Any) -> None:
    conversation = start(http)
    response = http.post(f"/v1/conversations/{conversation}/messages", json=body)
    assert response.status_code == 400, response.text
    assert history(http, conversation) == []
    assert say(http, conversation, "good").status_code == 201


# --- Streams ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("how", "content"), [("half pair", "yes 🌊 no \ufffd"), ("refusal", "I cannot.")]
)
def test_an_answer_that_is_no_plain_text_is_stored_and_frees_its_conversation(
    http: httpx.Client, how: str, content: str
) -> None:
    path = f"/v1/conversations/{start(http, 'odd')}/messages"
    made = http.post(path, json={"content": how})
    assert made.status_code == 201, made.text
    assert made.json()["content"] == content
    with http.stream("POST", path, json={"content": how, "stream": True}) as response:
        assert response.status_code == 201
        events = list(read_events(response))
    assert "".join(data["content"] for name, data in events if name == "delta") == content
    assert (events[-1][0], events[-1][1]["content"]) == ("message", content)


def test_a_streamed_answer_is_question_deltas_and_message(http: httpx.Client) -> None:
    conversation = start(http, "provider-slow-stream")
    path = f"/v1/conversations/{conversation}/messages"
    times = []
    events = []
    with http.stream("POST", path, json={"content": "Go", "stream": True}) as response:
        assert response.status_code == 201
        assert response.headers["content-type"].startswith("text/event-stream")
        for name, data in read_events(response):
            events.append((name, data))
            times.append(time.monotonic())
    assert [name for name, _ in events] == ["question", *["delta"] * len(WORDS), "message"]
    assert [data["content"] for name, data in events if name == "delta"] == list(WORDS)
    assert times[-1] - times[0] > 0.8
    question, message = events[0][1], events[-1][1]
    assert question["content"] == "Go"
    assert message["content"] == "".join(WORDS)
    assert message["status"] == "completed"
    assert message["usage"] == USAGE
    assert history(http, conversation) == [question, message]


def test_the_next_message_may_follow_a_stream_at_once(http: httpx.Client) -> None:
    conversation = start(http, "provider-hello")
    for number in range(10):
        assert say(http, conversation, str(number), stream=True).status_code == 201
    assert [m["content"] for m in history(http, conversation)][::2] == [str(n) for n in range(10)]
