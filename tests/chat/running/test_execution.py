"""How a chain's output reaches its client: what is ready goes together, and at once."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import gevent
import pytest
from gevent.event import Event
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from chat.chains.config import ChainConfig
from chat.chains.registry import BuiltChain, ChatInput
from chat.errors import ChainBroken
from chat.running import sse
from chat.running.execution import STREAM_BUFFER_CHUNKS, Call, Chunks, Heartbeat, stream
from chat.running.run import Run


class Patient:
    """A client that does not leave."""

    is_gone = False

    @contextmanager
    def watch(self, on_gone: Any) -> Iterator[None]:
        """Watch nothing."""
        yield


def call_of(write: Any) -> Call:
    """Return the call of a chain that yields what a generator function does."""

    def transform(inputs: Iterator[Any]) -> Iterator[Any]:
        list(inputs)
        yield from write()

    built = BuiltChain(
        config=ChainConfig(slug="x", version=1, runnable="x", model_name="fake:x"),
        runnable=RunnableGenerator(transform),
        chat_input=ChatInput.TEXT,
        text_key="",
        input_model=None,
        is_async_only=False,
    )
    return Call(chain=built, value="", run=Run(timeout_seconds=10), api="test")


def test_chunks_that_are_ready_come_together_and_wait_for_no_other() -> None:
    may_go_on = Event()

    def write() -> Iterator[str]:
        yield from "abc"
        may_go_on.wait()
        yield from "de"

    items = stream(call_of(write), Patient())
    assert next(items) == Chunks(["a", "b", "c"])
    may_go_on.set()
    assert list(items) == [Chunks(["d", "e"])]


def test_a_heartbeat_comes_between_chunks_and_not_among_them() -> None:
    def write() -> Iterator[str]:
        yield "a"
        gevent.sleep(0.5)
        yield "b"

    items = list(stream(call_of(write), Patient(), beat_seconds=0.2))
    assert items[0] == Chunks(["a"])
    assert items[-1] == Chunks(["b"])
    assert {type(item) for item in items[1:-1]} == {Heartbeat}


def test_chunks_before_a_failure_are_delivered() -> None:
    def write() -> Iterator[str]:
        yield from "ab"
        raise ZeroDivisionError

    items = stream(call_of(write), Patient())
    assert next(items) == Chunks(["a", "b"])
    with pytest.raises(ChainBroken):
        next(items)


def test_a_long_answer_is_all_there_in_order_and_none_is_empty() -> None:
    count = 5 * STREAM_BUFFER_CHUNKS + 1
    # None and "" are chunks like others.
    values = [None, "", *map(str, range(count))]
    items = list(stream(call_of(lambda: iter(values)), Patient()))
    batches = [item.values for item in items if isinstance(item, Chunks)]
    assert len(batches) == len(items)
    assert all(batches)
    assert list(chain.from_iterable(batches)) == values
    assert max(map(len, batches)) <= STREAM_BUFFER_CHUNKS + 1


def test_events_before_one_that_cannot_be_made_are_sent() -> None:
    def make() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise ZeroDivisionError

    pieces = sse.joined(make())
    assert next(pieces) == b"ab"
    with pytest.raises(ZeroDivisionError):
        next(pieces)
    assert list(sse.joined([])) == []


def test_no_chunk_is_held_until_the_next_one_comes() -> None:
    may_go_on = Event()
    waits = Event()
    seen: list[weakref.ref[Any]] = []

    class Chunk:
        pass

    class Writer(RunnableLambda[Any, Any]):
        def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:
            yield Chunk()
            waits.set()
            may_go_on.wait()

    call = call_of(lambda: iter(()))
    call = replace(call, chain=replace(call.chain, runnable=Writer(lambda value: value)))
    items = stream(call, Patient(), beat_seconds=0.01)
    seen += [weakref.ref(value) for value in next(items).values]  # type: ignore[union-attr]
    waits.wait()
    assert isinstance(next(items), Heartbeat)
    assert [found() for found in seen] == [None]
    may_go_on.set()
    assert all(isinstance(item, Heartbeat) for item in items)
