"""Chains for benchmarks: models that cost nothing, so that all else shows."""

import json
import time
from collections.abc import Iterator
from typing import Any

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from chat.chains.build_context import BuildContext
from chat.providers.chat_model import ResilientChatModel
from loadtest.settings import ANSWER, PROMPT, TOKENS_PER_SECOND, TOKENS_PER_STREAM

SLOW_SECONDS = 0.2
BUSY_ROUNDS = 100


def fake_chat(chain: BuildContext) -> Runnable[Any, Any]:
    """Return a prompt, a model of zero latency, and a parser, as LangServe's chain has them."""
    model = ResilientChatModel(names=["fake"], candidates=[FakeListChatModel(responses=[ANSWER])])
    return ChatPromptTemplate.from_template(PROMPT) | model | StrOutputParser()


def busy_chat(chain: BuildContext) -> Runnable[Any, Any]:
    """Return `fake_chat` with a parser that computes: 5 ms or so, the same work each time."""

    def compute(text: str) -> str:
        for _ in range(BUSY_ROUNDS):
            json.loads(json.dumps([text] * 100))
        return text

    return fake_chat(chain) | RunnableLambda(compute)


def slow_chat(chain: BuildContext) -> Runnable[Any, Any]:
    """Return `fake_chat` with a model that takes 200 ms."""

    def wait(value: Any) -> Any:
        time.sleep(SLOW_SECONDS)
        return value

    return fake_chat(chain) | RunnableLambda(wait)


def ticker(chain: BuildContext) -> Runnable[Any, Any]:
    """Return a stream of time stamps, by which a client measures how late each arrives."""

    def tick(inputs: Iterator[Any]) -> Iterator[str]:
        for _ in inputs:
            pass
        started = time.time()
        for number in range(1, TOKENS_PER_STREAM + 1):
            time.sleep(max(0.0, started + number / TOKENS_PER_SECOND - time.time()))
            yield f"{time.time():.6f} "

    return RunnableGenerator(tick)


def trivial(chain: BuildContext) -> Runnable[Any, Any]:
    """Return a chain that gives back what it gets."""
    return RunnableLambda(_same)


def two_seconds(chain: BuildContext) -> Runnable[Any, Any]:
    """Return a chain that waits as for a provider."""

    def wait(value: Any) -> Any:
        time.sleep(2)
        return value

    return RunnableLambda(wait)


def _same(value: Any) -> Any:
    return value
