"""Chains that can only be awaited, through the stack."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests import chains as runnables
from tests.provider import Provider
from tests.support.calls import chat_body, error_of, read_events
from tests.support.waiting import slack

MANY = 30


def test_an_async_only_chain_answers(http: httpx.Client) -> None:
    response = http.post("/v1/chat/completions", json=chat_body("async_only", "loud"))
    assert response.json()["choices"][0]["message"]["content"] == "LOUD"
    assert http.post("/chains/async_only/invoke", json={"input": "a"}).json()["output"] == "A"


def test_an_async_only_chain_streams_word_by_word(http: httpx.Client) -> None:
    body = chat_body("async_slow_words", "one two three four five six", stream=True)
    words, times = [], []
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        for _, data in read_events(response):
            if data != "[DONE]" and (text := data["choices"][0]["delta"].get("content")):
                words.append(text)
                times.append(time.monotonic())
    assert "".join(words).split() == ["one", "two", "three", "four", "five", "six"]
    assert times[-1] - times[0] > 0.5


def test_many_async_calls_wait_at_the_same_time(http: httpx.Client) -> None:
    def nap(number: int) -> str:
        response = http.post("/v1/chat/completions", json=chat_body("nap", f"call {number}"))
        return str(response.json()["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(MANY) as threads:
        started = time.monotonic()
        answers = list(threads.map(nap, range(MANY)))
        took = time.monotonic() - started
    assert answers == [f"call {number}" for number in range(MANY)]
    # One after the other they would take 15 s.
    assert 0.5 <= took < slack(3.0)


def test_an_async_step_before_a_model_that_is_not_async_works(http: httpx.Client) -> None:
    for is_stream in (False, True):
        body = chat_body("async_then_model", stream=is_stream)
        response = http.post("/v1/chat/completions", json=body)
        assert response.status_code == 200
        assert "there." in response.text


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_failing_async_chain_is_a_clean_500(http: httpx.Client, is_stream: bool) -> None:
    response = http.post("/v1/chat/completions", json=chat_body("async_broken", stream=is_stream))
    error_of(response, 500, "chain_error")
    assert runnables.SECRET not in response.text


def test_leaving_an_async_chain_stops_its_models_call(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=chat_body("async-hang", marker), timeout=1.0)
    upstream = provider.wait_for_call(marker)
    assert provider.seconds_until_hung_up(upstream, since=time.monotonic()) < 1.5
