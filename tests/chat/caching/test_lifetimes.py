"""How long the response cache serves an answer: its age, and what invalidates it before."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.chat.caching.cached import CHAT, ask, content, is_hit, status
from tests.provider import Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, manage
from tests.support.waiting import eventually, slack

SEEN_SECONDS = 1.0


# --- Old answers --------------------------------------------------------------------------------
def test_an_old_answer_is_given_while_one_request_renews_it(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    first = content(ask(http, "cached-stale", marker))
    time.sleep(1.1)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask(http, "cached-stale", marker), range(8)))
    assert all(is_hit(answer) and content(answer) == first for answer in answers)
    assert any(status(answer).endswith("detail=stale") for answer in answers)
    eventually(lambda: len(provider.calls_of(marker)) >= 2, seconds=5, what="it is revalidated")
    time.sleep(0.3)
    # A request after the revalidation, on a node that has it in memory or reads the store, hits.
    assert len(provider.calls_of(marker)) == 2


def test_an_old_answer_stands_in_for_a_failure(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    first = content(ask(http, "cached-stand-in", marker))
    time.sleep(1.1)
    again = ask(http, "cached-stand-in", marker)
    assert content(again) == first
    assert status(again).endswith("detail=stale-if-error")
    assert len(provider.calls_of(marker)) > 1


# --- What ends an answer's life -----------------------------------------------------------------
class Load:
    """Sends both nodes the same request all the time, and records the last hit of each."""

    def __init__(self, nodes: list[httpx.Client], marker: str) -> None:
        self._nodes = nodes
        self._marker = marker
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(len(nodes))]
        self.last_hit = [0.0] * len(nodes)
        self.hits = [0] * len(nodes)
        self.statuses: set[int] = set()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        while not all(hits > 5 for hits in self.hits):
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        body = chat_body("cached-cleared", self._marker)
        while not self._stop.is_set():
            started = time.monotonic()
            response = self._nodes[number].post(CHAT, json=body)
            self.statuses.add(response.status_code)
            if response.status_code == 200 and is_hit(response):
                self.last_hit[number] = started
                self.hits[number] += 1
            # It must leave the machine time for what ends the hits.
            self._stop.wait(0.005)


@pytest.fixture
def cleared_chain(save_chains: Callable[..., None], provider: Provider) -> dict[str, Any]:
    row = {
        "slug": "cached-cleared",
        "runnable": "assistant",
        "model": "openai:echo",
        "base_url": provider.base_url,
        "cache_mode": "always",
    }
    save_chains(row)
    return row


@pytest.mark.parametrize("how", ["edit", "--chain", "--account", "--all"])
def test_what_is_edited_or_cleared_is_gone_from_both_nodes(
    *,
    stack: EmbeddedStack,
    nodes: list[httpx.Client],
    cleared_chain: dict[str, Any],
    save_chains: Callable[..., None],
    provider: Provider,
    marker: str,
    how: str,
) -> None:
    with Load(nodes, marker) as load:
        before = len(provider.calls_of(marker))
        if how == "edit":
            save_chains({**cleared_chain, "temperature": 0.5})
        else:
            name = {"--chain": ["cached-cleared"], "--account": ["default"], "--all": []}[how]
            assert "within a second" in manage(stack, "cache", "clear", how, *name)
        eventually(
            lambda: len(provider.calls_of(marker)) > before,
            seconds=SEEN_SECONDS,
            what="the provider is called again",
            every_seconds=0.01,
        )
        time.sleep(0.5)
    assert load.statuses == {200}
    assert len(provider.calls_of(marker)) - before <= 2


def test_a_revoked_key_gets_no_more_hits_after_a_second(
    stack: EmbeddedStack, nodes: list[httpx.Client], cleared_chain: dict[str, Any], marker: str
) -> None:
    made = json.loads(manage(stack, "apikey", "create", "--name=leaves", "--json"))
    for node in nodes:
        node.headers["Authorization"] = f"Bearer {made['key']}"
    with Load(nodes, marker) as load:
        manage(stack, "apikey", "revoke", made["id"])
        revoked = time.monotonic()
        time.sleep(SEEN_SECONDS + 0.5)
    assert load.statuses == {200, 401}
    assert max(load.last_hit) < revoked + SEEN_SECONDS


def test_renewals_are_bounded_as_a_key_s_requests_are(
    *,
    stack: EmbeddedStack,
    chains: None,
    provider: Provider,
    save_chains: Callable[..., None],
    make_http: Callable[[str], httpx.Client],
    marker: str,
) -> None:
    row = {"slug": "cached-renewed", "runnable": "assistant", "base_url": provider.base_url}
    times = {"cache_ttl_seconds": 1, "cache_stale_seconds": 600}
    save_chains({**row, **times, "model": "openai:slow-echo", "cache_mode": "always"})
    client = make_http("single")
    client.base_url = httpx.URL(f"http://{stack.part('node1')['address']}")
    for number in range(2):
        ask(client, "cached-renewed", f"{marker} {number}")
    time.sleep(1.1)
    for _ in range(2):
        for number in range(2):
            answer = ask(client, "cached-renewed", f"{marker} {number}")
            assert status(answer).endswith("detail=stale")
    time.sleep(0.3)
    assert len([call for call in provider.calls_of(marker) if not call.is_over]) == 1
    deadline = time.monotonic() + slack(20)
    # Each has its turn, when the one before it is over.
    for number in range(2):
        while len(provider.calls_of(f"{marker} {number}")) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
            ask(client, "cached-renewed", f"{marker} {number}")


def test_an_old_answer_stands_in_for_the_failure_of_another_s_call_too(
    nodes: list[httpx.Client], provider: Provider, marker: str
) -> None:
    first = content(ask(nodes[0], "cached-stand-in", marker))
    time.sleep(1.1)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask(nodes[0], "cached-stand-in", marker), range(8)))
    assert all(content(answer) == first for answer in answers)
    assert all(status(answer).endswith("detail=stale-if-error") for answer in answers)
    assert len(provider.calls_of(marker)) < 8


def test_a_chain_that_takes_a_deleted_one_s_slug_has_nothing_of_it(
    stack: EmbeddedStack,
    nodes: list[httpx.Client],
    save_chains: Callable[..., None],
    provider: Provider,
    marker: str,
) -> None:
    row = {
        "slug": "cached-again",
        "runnable": "assistant",
        "model": "openai:echo",
        "base_url": provider.base_url,
        "cache_mode": "always",
    }
    delete = "from chat.models import Chain; Chain.objects.filter(slug='cached-again').delete();"
    manage(stack, "shell", "--no-imports", "-c", delete)
    save_chains(row)
    for node in nodes:
        assert marker in content(ask(node, "cached-again", marker))
    # At once, so that no node sees the slug without a chain; both have version 1.
    row = {**row, "model": "openai:hello"}
    code = f"{delete} Chain.objects.create(**{row!r})"
    manage(stack, "shell", "--no-imports", "-c", code)
    time.sleep(SEEN_SECONDS)
    answers = [ask(node, "cached-again", marker) for node in nodes]
    assert [content(answer) for answer in answers] == ["Hello there."] * 2
    assert [is_hit(answer) for answer in answers] == [False, True]
