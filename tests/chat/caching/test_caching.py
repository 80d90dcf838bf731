"""The response cache over HTTP: which answers are served, to which accounts, for how long."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.chat.caching.cached import CHAT, ask, content, is_hit, status
from tests.provider import Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, client_with, error_of, manage, run_manage
from tests.support.waiting import slack


# --- Hits and misses ----------------------------------------------------------------------------
def test_the_same_question_is_answered_from_the_cache_on_every_node(
    nodes: list[httpx.Client], provider: Provider, marker: str
) -> None:
    first = ask(nodes[0], "cached", marker)
    assert status(first) == "Headrace; fwd=miss; stored"
    assert first.headers["age"] == "0"
    near, other, near_there = (
        ask(nodes[0], "cached", marker),
        ask(nodes[1], "cached", marker),
        ask(nodes[1], "cached", marker),
    )
    assert re.fullmatch(r"Headrace; hit; ttl=3\d{3}; detail=near", status(near))
    assert status(other).endswith("detail=store")
    assert status(near_there).endswith("detail=near")
    bodies = [response.json() for response in (first, near, other, near_there)]
    assert len({body.pop("id") for body in bodies}) == 4
    assert all(abs(body.pop("created") - time.time()) < 30 for body in bodies)
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0]["usage"]["total_tokens"] == 18
    assert len(provider.calls_of(marker)) == 1
    for response in (near, other):
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-request-id"]


def test_what_does_not_determine_the_answer_does_not_matter(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    body = chat_body("cached", marker, temperature=0.5, seed=7)
    assert not is_hit(http.post(CHAT, json=body))
    same = [
        json.dumps(dict(reversed(body.items())), indent=3),
        json.dumps({**body, "user": "somebody", "stream": False, "stop": None, "n": 1}),
    ]
    for text in same:
        response = http.post(CHAT, content=text, headers={"Content-Type": "application/json"})
        assert is_hit(response), text
    for change in ({"seed": 8}, {"temperature": 0.6}, {"max_tokens": 5}, {"stop": ["x"]}):
        assert not is_hit(http.post(CHAT, json={**body, **change})), change
    assert len(provider.calls_of(marker)) == 5


def test_accounts_never_share_unless_the_chain_allows_it(
    http: httpx.Client, other_http: httpx.Client, provider: Provider, marker: str
) -> None:
    assert not is_hit(ask(http, "cached", marker))
    assert not is_hit(ask(other_http, "cached", marker))
    assert is_hit(ask(other_http, "cached", marker))
    assert len(provider.calls_of(marker)) == 2
    assert not is_hit(ask(http, "cached-shared", marker))
    assert is_hit(ask(other_http, "cached-shared", marker))


@pytest.mark.parametrize("is_stream", [False, True])
def test_no_account_replaces_what_others_are_given(
    http: httpx.Client, other_http: httpx.Client, provider: Provider, marker: str, is_stream: bool
) -> None:
    body = {**chat_body("cached-shared", marker), "stream": is_stream}
    assert not is_hit(http.post(CHAT, json=body))
    new = other_http.post(CHAT, json=body, headers={"Cache-Control": "No-Cache, max-age=0"})
    assert new.headers["cache-status"] == "Headrace; fwd=bypass; detail=no-cache"
    assert is_hit(http.post(CHAT, json=body))
    assert len(provider.calls_of(marker)) == 2


def test_keys_of_one_account_share(
    make_http: Callable[[str], httpx.Client], chains: None, marker: str
) -> None:
    assert not is_hit(ask(make_http("shared 1"), "cached", marker))
    assert is_hit(ask(make_http("shared 2"), "cached", marker))


def test_only_repeatable_requests_are_cached_where_the_chain_wants_it(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    model = "cached-if-deterministic"
    for _ in range(2):
        assert status(ask(http, model, marker)) == "Headrace; fwd=bypass; detail=not-deterministic"
    assert [is_hit(ask(http, model, marker, temperature=0)) for _ in range(2)] == [False, True]
    assert [is_hit(ask(http, model, marker, seed=1)) for _ in range(2)] == [False, True]
    assert status(ask(http, "provider-echo", marker)) == "Headrace; fwd=bypass; detail=off"


def test_a_client_can_want_an_answer_of_its_own(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    body = chat_body("cached", marker)
    private = http.post(CHAT, json=body, headers={"Cache-Control": "no-store"})
    assert status(private) == "Headrace; fwd=bypass; detail=no-store"
    assert not is_hit(http.post(CHAT, json=body))
    new = http.post(CHAT, json=body, headers={"Cache-Control": "max-age=0, No-Cache"})
    assert status(new) == "Headrace; fwd=request; stored"
    assert is_hit(http.post(CHAT, json=body))
    assert len(provider.calls_of(marker)) == 3


# --- One flight ---------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
def test_many_at_once_on_both_nodes_call_the_provider_once(
    nodes: list[httpx.Client], provider: Provider, marker: str, stream: bool
) -> None:
    with ThreadPoolExecutor(20) as threads:
        asked = [
            threads.submit(ask, nodes[number % 2], "cached-slow", marker, stream=stream)
            for number in range(20)
        ]
        answers = [answer.result() for answer in asked]
    assert len(provider.calls_of(marker)) == 1
    assert all("At " in answer.text and "last." in answer.text for answer in answers)
    assert sum("stored" in status(a) or status(a) == "Headrace; fwd=miss" for a in answers) == 1
    assert sum("collapsed" in status(a) or is_hit(a) for a in answers) == 19


def test_a_leader_whose_client_leaves_is_replaced(
    nodes: list[httpx.Client], provider: Provider, marker: str
) -> None:
    def leave() -> None:
        with pytest.raises(httpx.ReadTimeout):
            nodes[0].post(CHAT, json=chat_body("cached-slow", marker), timeout=1.0)

    with ThreadPoolExecutor(4) as threads:
        leaving = threads.submit(leave)
        provider.wait_for_call(marker)
        waiting = [threads.submit(ask, nodes[n % 2], "cached-slow", marker) for n in range(3)]
        leaving.result()
        assert all(content(answer.result()) == "At last." for answer in waiting)
    assert len(provider.calls_of(marker)) == 2


def test_waiting_requests_share_a_failure_and_it_is_not_cached(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    body = chat_body("cached-failing", marker)
    for _ in range(2):
        error_of(http.post(CHAT, json=body), 502, "provider_error")
    first, second = len(provider.calls_of(marker)) // 2, len(provider.calls_of(marker))
    assert second == 2 * first > 0


# --- Streams ------------------------------------------------------------------------------------
def stream_text(client: httpx.Client, model: str, text: str, **more: Any) -> tuple[str, str]:
    """Return the stream as it came, without ids and times, and its cache status."""
    response = ask(client, model, text, stream=True, **more)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    plain = re.sub(r'"id":"chatcmpl-[0-9a-f]{32}"', '"id":"ID"', response.text)
    plain = re.sub(r'"created":\d+', '"created":0', plain)
    return re.sub(r"(?m)^: .*\n\n", "", plain), status(response)


@pytest.mark.parametrize("more", [{}, {"stream_options": {"include_usage": True}}])
def test_a_stream_is_played_back_as_it_was(
    nodes: list[httpx.Client], provider: Provider, marker: str, more: dict[str, Any]
) -> None:
    first, how = stream_text(nodes[0], "cached-stream", marker, **more)
    assert how == "Headrace; fwd=miss"
    assert first.count("data: ") >= 10
    for node in (nodes[0], nodes[1], nodes[1]):
        started = time.monotonic()
        again, how = stream_text(node, "cached-stream", marker, **more)
        assert "; hit" in how
        assert again == first
        assert time.monotonic() - started < slack(1)
    assert ('"total_tokens":18' in first) == bool(more)
    assert len(provider.calls_of(marker)) == 1
    # Unary and streamed answers are two entries.
    assert not is_hit(ask(nodes[0], "cached-stream", marker))


def test_one_stream_has_one_new_id(http: httpx.Client, marker: str) -> None:
    ids = []
    for _ in range(3):
        response = ask(http, "cached-stream", marker, stream=True)
        (found,) = set(re.findall(r'"id":"(chatcmpl-[0-9a-f]{32})"', response.text))
        ids.append(found)
    assert len(set(ids)) == 3


def test_a_stream_that_breaks_or_is_left_is_not_cached(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    for _ in range(2):
        assert not is_hit(ask(http, "cached-broken-stream", marker, stream=True))
    assert len(provider.calls_of(marker)) >= 2
    body = chat_body("cached-hang", f"{marker} left", stream=True)
    for _ in range(2):
        with http.stream("POST", CHAT, json=body) as response:
            assert not is_hit(response)
            next(response.iter_raw())
    assert len(provider.calls_of(f"{marker} left")) == 2


def test_a_stream_that_ends_without_a_finish_reason_is_not_cached(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    for _ in range(2):
        answer = ask(http, "cached-half-stream", marker, stream=True)
        assert answer.text.endswith("data: [DONE]\n\n")
        assert not is_hit(answer)
    assert len(provider.calls_of(marker)) == 2


# --- A hit is as checked as a miss ---------------------------------------------------------------
def test_a_faulty_request_does_not_hit_a_good_one_s_answer(http: httpx.Client, marker: str) -> None:
    body = chat_body("cached", marker)
    assert [is_hit(http.post(CHAT, json=body)) for _ in range(2)] == [False, True]
    for fault in (
        {"user": 7},
        {"user": "x" * 513},
        {"n": 2},
        {"stream": 0},
        {"stream_options": {"include_usage": True}},
    ):
        error_of(http.post(CHAT, json={**body, **fault}), 400, None)
    error_of(http.post(CHAT, json={**body, "bogus": 1}), 400, "unsupported_parameter")
    text = json.dumps(body)
    wrong_type = http.post(CHAT, content=text, headers={"Content-Type": "text/plain"})
    assert wrong_type.status_code == 415
    assert http.put(CHAT, json=body).status_code == 405


def test_an_input_that_is_missing_has_no_answer_of_one_that_is_null(
    http: httpx.Client, provider: Provider, save_chains: Callable[..., None]
) -> None:
    save_chains({"slug": "cached-mirror", "runnable": "mirror", "cache_mode": "always"})
    nothing = {"input": None}
    answers = [http.post("/chains/cached-mirror/invoke", json=nothing) for _ in range(3)]
    assert is_hit(answers[-1])
    for body in ({}, {"config": {}}):
        error_of(http.post("/chains/cached-mirror/invoke", json=body), 400, None)


def test_a_key_that_may_not_gets_no_hit(
    http: httpx.Client, make_http: Callable[[str], httpx.Client], marker: str
) -> None:
    body = chat_body("cached-shared", marker)
    assert [is_hit(http.post(CHAT, json=body)) for _ in range(2)] == [False, True]
    error_of(make_http("without scopes").post(CHAT, json=body), 403, "missing_scope")
    error_of(make_http("expired").post(CHAT, json=body), 401, "expired_api_key")
    with httpx.Client(base_url=http.base_url) as anybody:
        error_of(anybody.post(CHAT, json=body), 401, "missing_api_key")


def test_hits_count_against_the_limits(stack: EmbeddedStack, chains: None, marker: str) -> None:
    made = json.loads(
        manage(stack, "apikey", "create", "--name=few", "--requests-per-minute=20", "--json")
    )
    with client_with(stack, made["key"]) as client:
        answers = [client.post(CHAT, json=chat_body("cached", marker)) for _ in range(60)]
    passed = [answer for answer in answers if answer.status_code == 200]
    # One client asks both nodes faster than they tell each other: (N - 1) · L more may pass
    # (docs/guides/limits.md).
    assert 20 <= len(passed) <= 40
    refused = error_of(answers[-1], 429, "requests_per_minute_exceeded")
    assert refused["type"]
    assert int(answers[-1].headers["retry-after"]) >= 1
    left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in passed]
    assert left[0] == 19
    assert min(left) == 0


# --- LangServe ----------------------------------------------------------------------------------
def test_invoke_and_batch_find_each_others_answers(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    def value(text: str) -> dict[str, Any]:
        return {"messages": [{"type": "human", "content": f"{marker} {text}"}]}

    def invoke(text: str, **more: Any) -> httpx.Response:
        body = {"input": value(text), "config": {}, "kwargs": {}, **more}
        response = http.post("/chains/cached/invoke", json=body)
        assert response.status_code == 200, response.text
        return response

    first, again = invoke("one"), invoke("one")
    assert (is_hit(first), is_hit(again)) == (False, True)
    assert first.json()["output"] == again.json()["output"]
    ids = {response.json()["metadata"]["run_id"] for response in (first, again)}
    assert len(ids) == 2
    run_id = "0190a6d0-0000-7000-8000-000000000001"
    chosen = invoke("one", config={"run_id": run_id, "tags": ["a"]})
    assert is_hit(chosen)
    assert chosen.json()["metadata"]["run_id"] == run_id
    body = {"inputs": [value("one"), value("two"), value("one")], "config": {}, "kwargs": {}}
    batch = http.post("/chains/cached/batch", json=body)
    assert batch.status_code == 200, batch.text
    assert batch.json()["output"][0] == batch.json()["output"][2] == first.json()["output"]
    assert status(batch) == 'Headrace; fwd=miss; detail="2 of 3 were there"'
    assert is_hit(invoke("two"))
    assert len(provider.calls_of(f"{marker} one")) == len(provider.calls_of(f"{marker} two")) == 1


def test_a_langserve_stream_is_played_back(http: httpx.Client, marker: str) -> None:
    value = {"messages": [{"type": "human", "content": marker}]}

    def stream() -> tuple[str, bool]:
        response = http.post("/chains/cached-stream/stream", json={"input": value})
        assert response.status_code == 200
        return re.sub(r'"run_id":"[-0-9a-f]{36}"', "", response.text), is_hit(response)

    (first, was_hit), (again, is_hit_now) = stream(), stream()
    assert (was_hit, is_hit_now) == (False, True)
    assert re.sub(r"(?m)^: .*\n\n", "", first) == again


# --- Operators ----------------------------------------------------------------------------------
def test_the_commands_show_and_warm(
    http: httpx.Client, stack: EmbeddedStack, provider: Provider, marker: str, tmp_path: Any
) -> None:
    before = json.loads(manage(stack, "cache", "stats", "--json"))
    lines = [json.dumps(chat_body("cached", f"{marker} {number}")) for number in range(5)]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join([*lines, '{"model": "no-such-chain", "messages": []}', ""]))
    env = {"HEADRACE_KEY": stack.demo_key}
    url = f"--url={stack.url}"
    done = run_manage(stack, "cache", "warm", str(file), url, "--json", env=env)
    assert done.returncode == 1
    assert "line 6: 400" in done.stderr
    first = json.loads(done.stdout)
    assert (first["done"], first["failed"], first["hits"]) == (5, 1, 0)
    file.write_text("\n".join(lines))
    again = json.loads(manage_with(stack, env, "cache", "warm", str(file), url, "--json"))
    assert (again["done"], again["skipped"]) == (0, 5)
    assert is_hit(ask(http, "cached", f"{marker} 3"))
    time.sleep(1.5)
    after = json.loads(manage(stack, "cache", "stats", "--json"))
    assert after["total"]["counts"]["stored"] >= before["total"]["counts"].get("stored", 0) + 5
    (cached,) = [chain for chain in after["chains"] if chain["chain"] == "cached"]
    assert cached["entries"] >= 5
    assert cached["bytes"] > 500
    assert 0 < cached["hit_rate"] < 1
    head, *_ = manage(stack, "cache", "stats").splitlines()
    results = "near store collapsed stale stale_error miss bypass error"
    assert head.split() == ["chain", "entries", "bytes", "hit", "rate", *results.split()]


def test_inspect_explains_why(
    http: httpx.Client, stack: EmbeddedStack, marker: str, tmp_path: Any
) -> None:
    file = tmp_path / "request.json"

    def inspect(body: dict[str, Any]) -> dict[str, Any]:
        file.write_text(json.dumps(body))
        found: dict[str, Any] = json.loads(manage(stack, "cache", "inspect", str(file), "--json"))
        return found

    body = chat_body("cached", marker)
    assert inspect(body)["why"] == "nothing is stored under this key"
    ask(http, "cached", marker)
    found = inspect(body)
    assert (found["hit"], found["why"], found["chain"]) == (True, "fresh", "cached")
    assert json.loads(manage(stack, "cache", "inspect", found["key"], "--json"))["hit"]
    assert inspect(chat_body("provider-echo"))["why"] == "chain provider-echo has caching off"
    assert "temperature 0" in inspect(chat_body("cached-if-deterministic"))["why"]
    for words, sentence in (
        (["cache", "inspect", str(tmp_path)], "no hit"),
        (["cache", "clear", "--chain", "nobody"], "There is no chain 'nobody'"),
        (["cache", "clear", "--account", "nobody"], "There is no account 'nobody'"),
        (["cache", "warm", str(file)], "Set HEADRACE_KEY"),
    ):
        done = run_manage(stack, *words)
        assert sentence in done.stdout + done.stderr


def manage_with(stack: EmbeddedStack, env: dict[str, str], *words: str) -> str:
    done = run_manage(stack, *words, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout
