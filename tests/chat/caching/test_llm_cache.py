"""Answers of single model calls, cached for other requests of the same chain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration
from prometheus_client import REGISTRY

from chat.caching.llm_cache import ModelCallCache
from chat.chains.config import ChainConfig
from chat.running.run import Caller, Run, current_caller, current_run
from scaling.response_cache.store import get_store
from tests.provider import Provider
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import chat_body, error_of, manage
from tests.support.redis_server import OwnRedis, own_redis
from tests.support.waiting import eventually

__all__ = ["own_redis"]

CHAT = "/v1/chat/completions"
TOKENS_A_CALL = 18


@pytest.fixture(scope="module")
def row(provider: Provider) -> Callable[..., dict[str, Any]]:
    """Return a maker of rows of chains that cache model calls and no complete answers."""

    def make(slug: str, model: str = "echo", **more: Any) -> dict[str, Any]:
        return {
            "slug": slug,
            "runnable": "lines",
            "model": f"openai:{model}",
            "base_url": provider.base_url,
            "cache_model_calls": True,
            **more,
        }

    return make


@pytest.fixture(scope="module", autouse=True)
def kept_chains(
    chains: None, save_chains: Callable[..., None], row: Callable[..., dict[str, Any]]
) -> None:
    save_chains(
        row("kept"),
        row("kept-not", cache_model_calls=False),
        row("kept-shared", cache_scope="shared"),
        row("kept-briefly", cache_ttl_seconds=1),
        row("kept-async", runnable="async_lines"),
        row("kept-summaries", "short-summary", runnable="summarize"),
        row("kept-cut-short", "cut-short"),
        row("kept-tools", "tool-call", runnable="bare_model"),
        row("kept-failing", "fail-500"),
    )


def ask(http: httpx.Client, model: str, *lines: str, **more: Any) -> int:
    """Post the lines; return the tokens that were used, after a check of the answer."""
    response = http.post(CHAT, json=chat_body(model, "\n".join(lines), **more))
    assert response.status_code == 200, response.text
    body = response.json()
    text = body["choices"][0]["message"]["content"] or ""
    assert text.count("|") == len(lines) - 1
    usage = body["usage"]
    return 0 if usage is None else int(usage["total_tokens"])


def test_a_step_that_two_requests_share_is_paid_once(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    assert ask(http, "kept", f"{marker} a", f"{marker} b") == 2 * TOKENS_A_CALL
    assert ask(http, "kept", f"{marker} b", f"{marker} c") == TOKENS_A_CALL
    assert ask(http, "kept", f"{marker} c", f"{marker} a") == 0
    for letter in "abc":
        assert len(provider.calls_of(f"{marker} {letter}")) == 1


def test_a_step_that_comes_again_in_one_request_is_paid_once(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    assert ask(http, "kept", marker, marker) == TOKENS_A_CALL
    assert len(provider.calls_of(marker)) == 1


def test_other_chains_cache_nothing(http: httpx.Client, provider: Provider, marker: str) -> None:
    assert ask(http, "kept-not", marker, marker) == 2 * TOKENS_A_CALL
    assert len(provider.calls_of(marker)) == 2


def test_documents_with_an_equal_part_share_its_summary(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    def summarize(word: str) -> None:
        parts = [f"{marker} {name} " + "turns the wheel. " * 340 for name in ("shared", word)]
        body = {"input": {"text": "\n\n".join(parts)}}
        response = http.post("/chains/kept-summaries/invoke", json=body)
        assert response.json()["output"] == "A short summary.", response.text

    summarize("first")
    summarize("second")
    assert len(provider.calls_of(f"{marker} shared")) == 1
    assert len(provider.calls_of(f"{marker} first")) == 1
    assert len(provider.calls_of(f"{marker} second")) == 1


def test_what_the_client_asks_of_the_model_makes_another_call(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"temperature": 0},
        {"temperature": 0.5},
        {"seed": 1},
        {"max_tokens": 9},
        {"stop": ["x"]},
    ]
    for more in options:
        assert ask(http, "kept", marker, **more) == TOKENS_A_CALL
        assert ask(http, "kept", marker, **more) == 0
    assert len(provider.calls_of(marker)) == len(options)


def test_accounts_never_share_unless_the_chain_allows_it(
    http: httpx.Client, other_http: httpx.Client, provider: Provider, marker: str
) -> None:
    assert ask(http, "kept", marker) == ask(other_http, "kept", marker) == TOKENS_A_CALL
    assert ask(other_http, "kept", marker) == 0
    assert len(provider.calls_of(marker)) == 2
    assert ask(http, "kept-shared", marker) == TOKENS_A_CALL
    assert ask(other_http, "kept-shared", marker) == 0


def test_a_client_can_want_new_calls(http: httpx.Client, provider: Provider, marker: str) -> None:
    def ask_with(directive: str) -> None:
        headers = {"Cache-Control": directive}
        assert http.post(CHAT, json=chat_body("kept", marker), headers=headers).status_code == 200

    ask_with("no-store")
    assert ask(http, "kept", marker) == TOKENS_A_CALL
    ask_with("no-cache")
    assert ask(http, "kept", marker) == 0
    assert len(provider.calls_of(marker)) == 3


def test_no_account_replaces_what_others_are_given(
    http: httpx.Client, other_http: httpx.Client, provider: Provider, marker: str
) -> None:
    headers = {"Cache-Control": "no-cache"}
    for _ in range(2):
        body = chat_body("kept-shared", marker)
        assert http.post(CHAT, json=body, headers=headers).status_code == 200
    # Neither new call was cached.
    assert ask(other_http, "kept-shared", marker) == TOKENS_A_CALL
    assert ask(http, "kept-shared", marker) == 0


def test_inputs_of_a_batch_share(http: httpx.Client, provider: Provider, marker: str) -> None:
    value = {"messages": [{"role": "user", "content": marker}]}
    body = {"inputs": [value, value], "config": {"max_concurrency": 1}}
    for _ in range(2):
        assert http.post("/chains/kept/batch", json=body).status_code == 200
    assert len(provider.calls_of(marker)) == 1


def test_chains_that_are_awaited_share(http: httpx.Client, provider: Provider, marker: str) -> None:
    assert ask(http, "kept-async", marker, marker) == TOKENS_A_CALL
    assert ask(http, "kept-async", marker) == 0
    assert len(provider.calls_of(marker)) == 1


def test_jobs_and_requests_share(http: httpx.Client, provider: Provider, marker: str) -> None:
    def run_job() -> dict[str, Any]:
        value = {"messages": [{"role": "user", "content": f"{marker} a\n{marker} b"}]}
        posted = http.post("/v1/jobs", json={"chain": "kept", "input": value})
        assert posted.status_code == 202, posted.text
        job_path = f"/v1/jobs/{posted.json()['id']}"
        eventually(
            lambda: http.get(job_path).json()["status"] == "succeeded",
            seconds=30,
            what="the job succeeds",
        )
        return dict(http.get(job_path).json())

    ask(http, "kept", f"{marker} a")
    first, second = run_job(), run_job()
    assert first["usage"]["total_tokens"] == TOKENS_A_CALL
    assert second["usage"] is None
    assert first["output"] == second["output"]
    assert len(provider.calls_of(marker)) == 2


def test_an_edited_chain_calls_its_model_again(
    http: httpx.Client,
    save_chains: Callable[..., None],
    row: Callable[..., dict[str, Any]],
    marker: str,
) -> None:
    save_chains(row("kept-edited"))
    assert [ask(http, "kept-edited", marker) for _ in range(2)] == [TOKENS_A_CALL, 0]
    save_chains(row("kept-edited"))
    assert ask(http, "kept-edited", marker) == TOKENS_A_CALL


def test_clearing_reaches_model_calls(http: httpx.Client, stack: EmbeddedStack) -> None:
    assert [ask(http, "kept", "cleared later") for _ in range(2)][1] == 0
    manage(stack, "cache", "clear", "--chain", "kept")
    time.sleep(1)
    assert ask(http, "kept", "cleared later") == TOKENS_A_CALL


def test_an_answer_lives_for_the_chains_time_to_live(http: httpx.Client, marker: str) -> None:
    assert [ask(http, "kept-briefly", marker) for _ in range(2)] == [TOKENS_A_CALL, 0]
    time.sleep(1.1)
    assert ask(http, "kept-briefly", marker) == TOKENS_A_CALL


def test_only_complete_answers_are_cached(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    for _ in range(2):
        assert ask(http, "kept-cut-short", marker) == TOKENS_A_CALL
        error_of(http.post(CHAT, json=chat_body("kept-failing", marker)), 502, "provider_error")
    assert len(provider.calls_of(marker)) >= 2 + 4
    assert [ask(http, "kept-tools", marker) for _ in range(2)] == [TOKENS_A_CALL, 0]
    again = http.post(CHAT, json=chat_body("kept-tools", marker)).json()["choices"][0]
    assert again["finish_reason"] == "tool_calls"
    assert [c["function"]["name"] for c in again["message"]["tool_calls"]] == ["weather"] * 2


# --- In one process ------------------------------------------------------------------------------
@pytest.fixture
def config() -> ChainConfig:
    return ChainConfig(
        slug=f"unit-{uuid4().hex}",
        version=1,
        runnable="lines",
        model_name="openai:x",
        caches_model_calls=True,
    )


@pytest.fixture
def begin_run(config: ChainConfig) -> Iterator[Callable[..., Run]]:
    """Return a function that begins a run of the chain for an account."""
    before = current_run.get(), current_caller.get()

    def begin(account_id: UUID | None, **options: Any) -> Run:
        current_caller.set(None if account_id is None else Caller(account_id=account_id))
        run = Run(timeout_seconds=60, options=options)
        run.chain = config
        current_run.set(run)
        return run

    yield begin
    current_run.set(before[0])
    current_caller.set(before[1])


def generation(text: str = "Yes.", reason: str = "stop") -> list[ChatGeneration]:
    message = AIMessage(text, id="lc_run--1", response_metadata={"finish_reason": reason})
    return [ChatGeneration(message=message)]


def found(llm_string: str = "model") -> str | None:
    result = ModelCallCache().lookup("prompt", llm_string)
    if result is None:
        return None
    message = result[0].message  # type: ignore[attr-defined]
    assert message.id is None
    assert message.usage_metadata["total_tokens"] == 0
    return str(message.text)


def counted(result: str) -> float:
    name = "headrace_model_calls_cached_total"
    return REGISTRY.get_sample_value(name, {"result": result}) or 0


def test_hits_and_misses_are_counted(begin_run: Callable[..., Run]) -> None:
    begin_run(uuid4())
    before = counted("hit"), counted("miss")
    assert found() is None
    ModelCallCache().update("prompt", "model", generation())
    assert found() == "Yes."
    assert (counted("hit"), counted("miss")) == (before[0] + 1, before[1] + 1)


def test_without_a_run_or_its_account_nothing_is_cached(begin_run: Callable[..., Run]) -> None:
    account = uuid4()
    begin_run(None)
    ModelCallCache().update("prompt", "model", generation())
    current_run.set(None)
    ModelCallCache().update("prompt", "model", generation())
    assert found() is None
    begin_run(account)
    assert found() is None


@pytest.mark.parametrize("reason", ["length", "content_filter", "SAFETY", "MALFORMED_CALL", ""])
def test_other_finish_reasons_are_not_cached(begin_run: Callable[..., Run], reason: str) -> None:
    begin_run(uuid4())
    ModelCallCache().update("prompt", "model", generation(reason=reason))
    assert found() is None


def test_an_object_known_by_its_address_alone_is_no_key(begin_run: Callable[..., Run]) -> None:
    begin_run(uuid4())
    llm_string = "[('tool', <function f at 0x7f0123456789>)]"
    ModelCallCache().update("prompt", llm_string, generation())
    assert found(llm_string) is None


def test_half_a_surrogate_pair_is_cached_as_clients_get_it(begin_run: Callable[..., Run]) -> None:
    begin_run(uuid4())
    ModelCallCache().update("prompt", "model", generation("half \ud800"))
    assert found() == "half \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("value", [b"", b"junk", b"\x80\x04N."])
def test_a_value_that_cannot_be_read_is_a_miss(
    begin_run: Callable[..., Run], config: ChainConfig, value: bytes
) -> None:
    begin_run(uuid4())
    ModelCallCache().update("prompt", "model", generation())
    (key,) = (
        key
        for batch in get_store().count()
        for key, _ in batch
        if key.startswith(f"{config.slug}:")
    )
    get_store().set(key, value, 60)
    assert found() is None
    ModelCallCache().update("prompt", "model", generation("New."))
    assert found() == "New."


def test_a_store_that_is_unavailable_is_a_miss(
    begin_run: Callable[..., Run], own_redis: OwnRedis, settings: Any
) -> None:
    settings.REDIS_RETRY_SECONDS = 0.1
    begin_run(uuid4())
    ModelCallCache().update("prompt", "model", generation())
    assert found() == "Yes."
    own_redis.kill()
    assert found() is None
    ModelCallCache().update("prompt", "model", generation())
    own_redis.start()
    time.sleep(0.2)
    assert found() is None
    ModelCallCache().update("prompt", "model", generation())
    assert found() == "Yes."
