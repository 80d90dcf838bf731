"""Runnables for tests; the test stack serves each under its own name.

The stack imports them as `tests.chains.NAME`, see CHAIN_RUNNABLES.
"""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk, HumanMessage, convert_to_messages
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnableSerializable,
)
from pydantic import BaseModel
from typing_extensions import TypedDict

from chat.running.run import report_progress
from config.api.errors import ApiError
from jobs.errors import PermanentFailure
from tests.failing_chains import SECRET, broken, fails_later, provider_down, quotes_input
from tests.odd_chunks import odd_chunks

__all__ = ["NAMES", "SECRET", "broken", "fails_later", "provider_down", "quotes_input"]


class Order(BaseModel):
    """What `typed` takes."""

    item: str
    count: int = 1


class Receipt(BaseModel):
    """What `typed` returns."""

    line: str
    total: int


class Question(TypedDict):
    """What `question_only` takes: its only required key holds a text."""

    question: str


def _echo(text: str) -> str:
    return text


def _typed(order: Order) -> Receipt:
    return Receipt(line=f"{order.count} x {order.item}", total=order.count)


async def _async_only(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()


async def _async_words(texts: AsyncIterator[str]) -> AsyncIterator[str]:
    async for text in texts:
        for word in text.split():
            await asyncio.sleep(0)
            yield word


def _mirror(value: Any) -> Any:
    return value


def _names(value: Any) -> Any:
    """Return the names of the classes in a value."""
    if isinstance(value, dict):
        return {key: _names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_names(item) for item in value]
    return type(value).__name__


def _words(texts: Iterator[str]) -> Iterator[AIMessageChunk]:
    for text in texts:
        for word in text.split():
            yield AIMessageChunk(content=word)


def _silent(seconds: Iterator[float]) -> Iterator[str]:
    for pause in seconds:
        yield "begun"
        time.sleep(pause)
        yield "done"


def _no_json(text: str) -> Any:
    return threading.Lock()


class Divisor(TypedDict):
    """What `divide` takes."""

    by: int


def _divide(divisor: Divisor) -> int:
    return 100 // divisor["by"]


async def _nap(text: str) -> str:
    await asyncio.sleep(0.5)
    return text


async def _async_broken(text: str) -> str:
    raise RuntimeError(f"the key is {SECRET}")


async def _async_slow_words(texts: AsyncIterator[str]) -> AsyncIterator[str]:
    async for text in texts:
        for word in text.split():
            yield f"{word} "
            await asyncio.sleep(0.15)


async def _async_fails_later(texts: AsyncIterator[str]) -> AsyncIterator[str]:
    async for text in texts:
        yield text
    raise RuntimeError(f"the key is {SECRET}")


def _growing(values: Iterator[Any]) -> Iterator[dict[str, Any]]:
    for _ in values:
        yield {"city": "Oslo"}
        yield {"city": "Oslo", "sunny": True}


def _question_only(value: dict[str, str]) -> str:
    return f"You asked {value['question']}"


def _blocks(value: Any) -> str:
    # Not a wait that anything could interrupt politely: a sleep in the chain's own code.
    time.sleep(60)
    return "never"


def pair(chain: Any) -> Runnable[Any, Any]:
    """Build a chain that asks its model twice at the same time."""
    model = RunnableLambda(lambda value: value["messages"]) | chain.model
    both = RunnableParallel(first=model, second=model)
    return both | RunnableLambda(
        lambda answers: f"{answers['first'].text}|{answers['second'].text}"
    )


def lines(chain: Any) -> Runnable[Any, Any]:
    """Build a chain that asks its model about each line of the last message by itself."""

    def ask(value: Any) -> str:
        text = convert_to_messages(value["messages"])[-1].text
        return "|".join(chain.model.invoke([HumanMessage(line)]).text for line in text.split("\n"))

    return RunnableLambda(ask)


def async_lines(chain: Any) -> Runnable[Any, Any]:
    """Build what `lines` is, as a chain that can only be awaited."""

    async def ask(value: Any) -> str:
        text = convert_to_messages(value["messages"])[-1].text
        answers = [await chain.model.ainvoke([HumanMessage(line)]) for line in text.split("\n")]
        return "|".join(answer.text for answer in answers)

    return RunnableLambda(ask)


def bare_model(chain: Any) -> Runnable[Any, Any]:
    """Build a chain that is nothing but its model, which takes a list of messages."""
    return chain.model


def async_then_model(chain: Any) -> Runnable[Any, Any]:
    """Build a chain whose first step can only be awaited, and whose model never is."""

    async def messages(value: Any) -> Any:
        await asyncio.sleep(0.01)
        return value["messages"]

    return RunnableLambda(messages) | chain.model


def cautious(chain: Any) -> Runnable[Any, Any]:
    """Build a chain that catches whatever its model raises, and asks again."""
    model = RunnableLambda(lambda value: value["messages"]) | chain.model
    return model.with_fallbacks([model, model])


def cannot_be_built(chain: Any) -> Runnable[Any, Any]:
    """Fail as a team's builder may."""
    raise LookupError(f"no template for {chain.slug}")


def builds_no_runnable(chain: Any) -> Any:
    """Return what is no chain."""
    return 42


def _config(value: Any, config: RunnableConfig) -> Any:
    """Return what a step of the chain sees of its configuration."""
    names = ("tags", "metadata", "max_concurrency", "recursion_limit", "configurable")
    return {name: config.get(name) for name in names}


class Greeter(RunnableSerializable[str, str]):
    """Has an option that clients may set."""

    greeting: str = "hello"

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        """Greet somebody."""
        return f"{self.greeting} {input}"


class Crowd:
    """Counts how many calls are in it at once."""

    def __init__(self) -> None:
        self.inside = 0

    def __call__(self, seconds: float) -> int:
        """Return how many were in, this call included; a negative time is refused."""
        if seconds < 0:
            raise ValueError(seconds)
        self.inside += 1
        inside = self.inside
        try:
            time.sleep(seconds)
        finally:
            self.inside -= 1
        return inside


echo: Runnable[Any, Any] = RunnableLambda(_echo)
typed: Runnable[Any, Any] = RunnableLambda(_typed)
async_only: Runnable[Any, Any] = RunnableLambda(_async_only)
async_words: Runnable[Any, Any] = RunnableGenerator(_async_words).with_types(input_type=str)
mirror: Runnable[Any, Any] = RunnableLambda(_mirror)
names: Runnable[Any, Any] = RunnableLambda(_names)
words: Runnable[Any, Any] = RunnableGenerator(_words).with_types(input_type=str)
silent: Runnable[Any, Any] = RunnableGenerator(_silent).with_types(input_type=float)
no_json: Runnable[Any, Any] = RunnableLambda(_no_json)
no_schema: Runnable[Any, Any] = RunnableLambda(_mirror).with_types(
    input_type=threading.Event, output_type=threading.Event
)
divide: Runnable[Any, Any] = RunnableLambda(_divide)
see_config: Runnable[Any, Any] = RunnableLambda(_config)
crowd: Runnable[Any, Any] = RunnableLambda(Crowd().__call__).with_types(input_type=float)
greeter: Runnable[Any, Any] = Greeter().configurable_fields(
    greeting=ConfigurableField(id="greeting", description="The word of welcome.")
)
nap: Runnable[Any, Any] = RunnableLambda(_nap)
async_broken: Runnable[Any, Any] = RunnableLambda(_async_broken)
async_slow_words: Runnable[Any, Any] = RunnableGenerator(_async_slow_words).with_types(
    input_type=str
)
async_fails_later: Runnable[Any, Any] = RunnableGenerator(_async_fails_later).with_types(
    input_type=str
)
growing: Runnable[Any, Any] = RunnableGenerator(_growing)
blocks: Runnable[Any, Any] = RunnableLambda(_blocks)
question_only: Runnable[Any, Any] = RunnableLambda(_question_only).with_types(
    input_type=Question  # type: ignore[arg-type]
)
prompt: Runnable[Any, Any] = ChatPromptTemplate.from_messages(
    [
        ("system", "Obey {rules}."),
        MessagesPlaceholder("history", optional=True),
        ("human", "{question}"),
    ]
).partial(rules="the rules of the house")


def _hostile(how: str) -> Any:
    """Do what no chain should do, to nobody's harm but its own."""
    match how:
        case "surrogate":
            return "abc \ud800"
        case "huge number":
            return {"n": 2**70}
        case "progress":
            report_progress(2**40, -1, "\ud800")
        case "odd progress":
            report_progress(1.5, 2, None)  # type: ignore[arg-type]
        case "no number":
            report_progress("many", 2)  # type: ignore[arg-type]
        case "error":
            raise ValueError("\ud800 \0")
        case "permanent error":
            raise PermanentFailure("\ud800 \0")
        case "long code":
            raise ApiError(500, "No.", code="c" * 200)
        case "exit":
            sys.exit(1)
        case "interrupt":
            raise KeyboardInterrupt
        case "generator":
            raise GeneratorExit
    return how


hostile: Runnable[Any, Any] = RunnableLambda(_hostile)


def _fails_slowly(seconds: float) -> None:
    time.sleep(seconds)
    raise RuntimeError


fails_slowly: Runnable[Any, Any] = RunnableLambda(_fails_slowly)


def _endless(texts: Iterator[str]) -> Iterator[AIMessageChunk]:
    for text in texts:
        while True:
            yield AIMessageChunk(content=text)
            time.sleep(0.01)


endless: Runnable[Any, Any] = RunnableGenerator(_endless).with_types(input_type=str)
odd: Runnable[Any, Any] = RunnableGenerator(odd_chunks).with_types(
    input_type=str, output_type=AIMessageChunk
)

NAMES = (
    "hostile",
    "fails_slowly",
    "endless",
    "odd",
    "echo",
    "typed",
    "async_only",
    "async_words",
    "mirror",
    "names",
    "words",
    "silent",
    "broken",
    "quotes_input",
    "provider_down",
    "fails_later",
    "no_json",
    "no_schema",
    "divide",
    "see_config",
    "crowd",
    "greeter",
    "prompt",
    "nap",
    "async_broken",
    "async_slow_words",
    "async_fails_later",
    "growing",
    "blocks",
    "question_only",
    "pair",
    "lines",
    "async_lines",
    "bare_model",
    "async_then_model",
    "cautious",
    "cannot_be_built",
    "builds_no_runnable",
)
