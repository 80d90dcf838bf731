"""The benchmarks' provider, by the clients that read it; and what its bounds refuse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from openai import OpenAI
from pydantic import SecretStr

from loadtest import wrk
from loadtest.provider import compare, open_streams, overhead, prompts, stored, wrong_keys
from loadtest.provider.stack import Provider, provider
from loadtest.settings import ANSWER
from loadtest.table import Row

MESSAGES: list[Any] = [{"role": "user", "content": "What is a headrace?"}]


@pytest.fixture(scope="module")
def quick() -> Iterator[Provider]:
    with provider() as mock:
        yield mock


def client(mock: Provider) -> OpenAI:
    return OpenAI(base_url=mock.url, api_key="none", max_retries=0)


def streamed(mock: Provider) -> list[str]:
    chunks = client(mock).chat.completions.create(model="m", messages=MESSAGES, stream=True)
    return [chunk.choices[0].delta.content or "" for chunk in chunks]


def test_a_complete_answer_is_the_one_that_is_looked_for(quick: Provider):
    answer = client(quick).chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage is not None
    assert answer.usage.total_tokens == 112


def test_a_stream_has_a_hundred_tokens_and_an_end(quick: Provider):
    texts = streamed(quick)
    assert len(texts) == 101
    assert texts[-2] == f"{compare.END_OF_STREAM} "
    assert texts[-1] == ""


def test_langchain_reads_it_with_usage(quick: Provider):
    model = ChatOpenAI(model="m", base_url=quick.url, api_key=SecretStr("none"), stream_usage=True)
    chunks = list(model.stream("hi"))
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata)
    assert "".join(str(chunk.content) for chunk in chunks).split()[99] == compare.END_OF_STREAM


def test_a_connection_takes_long_and_many_requests(quick: Provider):
    mine = client(quick)
    for size in (1, 400_000, 2_000_000, 1):
        content = "x" * size
        answer = mine.chat.completions.create(
            model="m", messages=[{"role": "user", "content": content}]
        )
        assert answer.choices[0].message.content == ANSWER


def test_it_waits_as_long_as_it_says():
    with provider(first_token_seconds=0.2) as mock:
        began = time.monotonic()
        answer = client(mock).chat.completions.create(model="m", messages=MESSAGES)
        took = time.monotonic() - began
    found = overhead.TOOK.search(answer.choices[0].message.content or "")
    assert found is not None
    assert 0.2 <= float(found[1]) <= took


def test_tokens_come_at_their_pace_with_the_time_of_their_sending():
    with provider(first_token_seconds=0.1, tokens_per_second=20, tokens=10) as mock:
        began = time.time()
        sent = [float(text) for text in streamed(mock) if text]
    assert len(sent) == 10
    assert sent[0] >= began + 0.1
    assert sent == sorted(sent)
    assert sent[-1] >= began + 0.1 + 9 / 20


def load(**more: float) -> wrk.Load:
    figures: dict[str, Any] = {
        "requests": 1,
        "seconds": 1,
        "bad_statuses": 0,
        "failures": 0,
        "p50_ms": 1,
    }
    return wrk.Load(**{**figures, "p99_ms": 1, "max_ms": 1, **more})


def seen(per_second: float, cpu_ms: float) -> compare.Figures:
    return compare.Figures(per_second=per_second, p99_ms=1, cpu_ms=cpu_ms)


def streams(p99_ms: float | None, lost: int, kilobytes: float) -> list[Row]:
    figures: dict[str, Any] = {"complete": 1, "p50_ms": 1, "max_ms": 1, "seconds": 1}
    return open_streams.rows_of(
        1,
        30,
        open_streams.Figures(**figures, p99_ms=p99_ms, lost=lost, kilobytes=kilobytes),
    )


def versus(node: float, cpu_ms: float, kind: str) -> list[Row]:
    servers = {"node": seen(node, cpu_ms), "LangServe": seen(100, 9), "LiteLLM": seen(50, 9)}
    return compare.rows_of(kind, 32, servers)


@pytest.mark.parametrize(
    ("good", "bad", "missed"),
    [
        (versus(200, 1.3, "whole"), versus(199, 1.31, "whole"), 2),
        (versus(850, 3.0, "stream"), versus(699, 3.01, "stream"), 3),
        (
            prompts.rows_of({1_000: 1, 10_000: 2, 100_000: 15.9}, [load()], [load(p99_ms=29)]),
            prompts.rows_of({1_000: 1, 10_000: 2, 100_000: 16}, [load()], [load(p99_ms=30)]),
            2,
        ),
        (wrong_keys.rows_of({"node": 0.14}), wrong_keys.rows_of({"node": 0.15}), 1),
        (streams(49, 0, 44), streams(None, 1, 45), 3),
        (
            stored.rows_of("job, submitted and run", [(1.2, 1.4)]),
            stored.rows_of("job, submitted and run", [(1.3, 1.5)]),
            2,
        ),
    ],
    ids=["whole", "stream", "prompts", "wrong keys", "open streams", "stored"],
)
def test_a_bound_that_is_missed_fails(good: list[Row], bad: list[Row], missed: int):
    assert all(row.passed for row in good)
    assert sum(not row.passed for row in bad) == missed
    assert all(row.bound for row in bad if not row.passed)
