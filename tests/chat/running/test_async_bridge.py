"""Coroutines awaited from greenlets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import gevent
import pytest
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from chat.running.async_bridge import (
    STREAM_BUFFER_CHUNKS,
    invoke_async,
    is_async_only,
    stream_async,
    wait_for,
)
from chat.running.run import Run, current_run
from tests import chains
from tests.support.waiting import slack


async def nap(seconds: float) -> float:
    """Wait and return."""
    await asyncio.sleep(seconds)
    return seconds


def test_many_waits_are_one_wait() -> None:
    started = time.monotonic()
    workers = [gevent.spawn(wait_for, nap(0.2)) for _ in range(50)]
    assert [worker.get(timeout=5) for worker in workers] == [0.2] * 50
    assert time.monotonic() - started < slack(1.5)


def test_other_greenlets_run_during_the_wait() -> None:
    ticks: list[int] = []

    def tick() -> None:
        for number in range(5):
            ticks.append(number)
            gevent.sleep(0.02)

    ticker = gevent.spawn(tick)
    wait_for(nap(0.3))
    assert ticks == [0, 1, 2, 3, 4]
    ticker.join()


def test_an_error_is_raised_as_it_is() -> None:
    async def fail() -> None:
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here"):
        wait_for(fail())


def test_killing_the_greenlet_cancels_the_coroutine() -> None:
    ends: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    worker = gevent.spawn(wait_for, work())
    gevent.sleep(0.05)
    worker.kill()
    wait_for(nap(0.05))
    assert ends == ["cancelled"]


def test_a_coroutine_sees_the_run() -> None:
    async def seen() -> Any:
        return current_run.get()

    run = Run(timeout_seconds=1)
    token = current_run.set(run)
    try:
        assert wait_for(seen()) is run
    finally:
        current_run.reset(token)


def test_a_stream_comes_in_order_and_ends() -> None:
    async def numbers(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
        async for count in inputs:
            for number in range(count):
                yield number

    # More than the buffer holds.
    count = 3 * STREAM_BUFFER_CHUNKS
    assert list(stream_async(RunnableGenerator(numbers), count, None)) == list(range(count))


def test_a_streams_error_comes_after_its_chunks() -> None:
    chunks = stream_async(chains.async_fails_later, "one", None)
    assert next(chunks) == "one"
    with pytest.raises(RuntimeError):
        next(chunks)


def test_closing_a_stream_cancels_it() -> None:
    ends: list[str] = []

    async def endless(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0.001)
        finally:
            ends.append("closed")

    chunks = stream_async(RunnableGenerator(endless), 1, None)
    with closing(chunks):  # type: ignore[type-var]
        assert next(chunks) == 1
    deadline = time.monotonic() + slack(2)
    while not ends and time.monotonic() < deadline:
        wait_for(nap(0.01))
    assert ends == ["closed"]


def test_a_step_that_blocks_runs_in_the_hub_and_holds_up_no_coroutine() -> None:
    def block(value: str) -> str:
        gevent.sleep(0.2)
        assert isinstance(gevent.getcurrent(), gevent.Greenlet)
        return value.upper()

    async def first(value: str) -> str:
        return value + "!"

    chain = RunnableLambda(first) | RunnableLambda(block)
    started = time.monotonic()
    workers = [gevent.spawn(invoke_async, chain, "a", None) for _ in range(10)]
    assert [worker.get(timeout=5) for worker in workers] == ["A!"] * 10
    assert time.monotonic() - started < slack(1.5)


@pytest.mark.parametrize(
    ("runnable", "expected"),
    [
        (chains.async_only, True),
        (chains.async_words, True),
        (chains.echo, False),
        (chains.words, False),
        (chains.echo | chains.async_only, True),
        (chains.echo | chains.echo, False),
        (chains.echo | {"a": chains.echo, "b": chains.async_only}, True),
        (chains.async_only.with_config(tags=["x"]), True),
        (chains.echo.with_config(metadata={"async_only": True}), True),
    ],
)
def test_chains_that_can_only_be_awaited_are_detected(runnable: Any, expected: bool) -> None:
    assert is_async_only(runnable) is expected
