"""Chains for the tests of nodes that come and go."""

import os
import time
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk, convert_to_messages
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

TICK_SECONDS = 0.2
_kept: list[bytes] = []


def _text(value: Any) -> str:
    return convert_to_messages(value["messages"])[-1].text


def _tick(values: Iterator[Any]) -> Iterator[AIMessageChunk]:
    """Yield the elapsed seconds, for as many as the last message says."""
    for value in values:
        for number in range(int(float(_text(value)) / TICK_SECONDS)):
            yield AIMessageChunk(content=f"{number} ")
            time.sleep(TICK_SECONDS)


def ticks(chain: Any) -> Runnable[Any, Any]:
    """Build a chain whose answer takes its time."""
    return RunnableGenerator(_tick)


def hello(chain: Any) -> Runnable[Any, Any]:
    """Build a chain that says which process answered."""
    return RunnableLambda(lambda value: f"{os.environ['NODE_NAME']} {os.getpid()}")


def hoard(chain: Any) -> Runnable[Any, Any]:
    """Build a chain that never gives back as many megabytes as the last message says."""

    def run(value: Any) -> str:
        # In steps: HAProxy takes a node that stands still for seconds for a frozen one.
        for _ in range(int(_text(value))):
            _kept.append(os.urandom(1024) * 1024)
            time.sleep(0)
        return "more"

    return RunnableLambda(run)


def burn(chain: Any) -> Runnable[Any, Any]:
    """Build a chain that computes for some milliseconds."""
    return RunnableLambda(lambda value: f"{sum(range(200_000))}")


NAMES = ("ticks", "hello", "hoard", "burn")
