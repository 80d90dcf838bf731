"""The state of one call of a chain, for the API and for the chain's model calls.

The API makes a `Run`; the chain's model calls find it in a context variable, read their options
from it, and add their token counts. Cancelling a run aborts every model call it has under way.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import gevent
from langchain_core.messages import AIMessage

from config.api.ids import new_uuid

if TYPE_CHECKING:
    from chat.chains.config import ChainConfig

MAX_COUNT = 2**31 - 1


class RunCancelled(BaseException):
    """Thrown into a chain that must stop.

    Not an `Exception`, so that a chain's own `with_fallbacks` or `except Exception` cannot mistake
    it for a failure to work around.
    """


@dataclass(slots=True)
class Usage:
    """Tokens of all the model calls of a run; `is_reported` if any provider reported them.

    Of the prompts' tokens some may have been cached at the provider, and of the completions' some
    may be reasoning; None where no provider reported it.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_reported: bool = False
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def add(
        self,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int | None = None,
        reasoning_tokens: int | None = None,
    ) -> None:
        """Count one model call."""
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.is_reported = True
        if cached_tokens is not None:
            self.cached_tokens = (self.cached_tokens or 0) + cached_tokens
        if reasoning_tokens is not None:
            self.reasoning_tokens = (self.reasoning_tokens or 0) + reasoning_tokens


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long chain has come: `completed` parts of `total`."""

    completed: int
    total: int
    message: str = ""


class ModelAnswers(Protocol):
    """Answers of model calls that an earlier attempt at the same job has paid for."""

    def key(self, call: Mapping[str, Any]) -> str:
        """Return the name of a model call; the same call made twice has two names."""

    def find(self, key: str) -> AIMessage | None:
        """Return the stored answer."""

    def keep(self, key: str, answer: AIMessage) -> None:
        """Store a complete answer; never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The account of a run, and whether its model calls may use the cache and be stored in it.

    `stores_shared` is about answers that other accounts get too.
    """

    account_id: uuid.UUID
    reads_cached: bool = True
    stores: bool = True
    stores_shared: bool = True


# Set where a request or an attempt at a job is admitted; read where its runs are made.
current_caller: ContextVar[Caller | None] = ContextVar("current_caller", default=None)


class Run:
    """The state of one call; used by the request's greenlet and by those of its chain.

    `caller` is the current one where the run is made; `chain` is set when it starts. Both are here
    because greenlets and the asyncio thread take this along and little else.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float,
        options: Mapping[str, Any] | None = None,
        answers: ModelAnswers | None = None,
    ) -> None:
        self.id: uuid.UUID = new_uuid()
        self.options: Mapping[str, Any] = options or {}
        self.answers = answers
        self.caller = current_caller.get()
        self.chain: ChainConfig | None = None
        self.timeout_seconds = timeout_seconds
        self.deadline = time.monotonic() + timeout_seconds
        self.usage = Usage()
        self.streamed_chunks = 0
        # Whether a model's stream ended without a finish reason.
        self.maybe_truncated = False
        self.progress: Progress | None = None
        self.is_cancelled = False
        self._greenlets: set[gevent.Greenlet[..., Any]] = set()

    def seconds_left(self) -> float:
        """Return the time until the deadline, never below zero."""
        return max(0.0, self.deadline - time.monotonic())

    def billed_tokens(self) -> int:
        """Return the tokens to count against a quota.

        A stream that was cut off has reported no usage; its chunks are counted, a token each, so
        that disconnecting early is not free.
        """
        return self.usage.total_tokens if self.usage.is_reported else self.streamed_chunks

    def cancel(self) -> None:
        """Throw RunCancelled into every greenlet of this run that is now in `cancellable()`.

        A second call throws nothing into those that the first has reached: it would end what they
        do to clean up, such as the closing of a connection.
        """
        self.is_cancelled = True
        greenlets, self._greenlets = self._greenlets, set()
        for greenlet in greenlets:
            greenlet.kill(RunCancelled(), block=False)

    def cancellable(self) -> _Cancellable:
        """Allow `cancel` to abort the current greenlet inside the `with` block.

        LangChain runs parallel steps in threads, which gevent makes greenlets: each enters one
        around its provider call. A native thread cannot be interrupted; its provider's timeout
        ends it.
        """
        return _Cancellable(self)


class _Cancellable:
    """A class and not a generator: one is entered for each token of a stream."""

    __slots__ = ("_entered", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._entered: gevent.Greenlet[..., Any] | None = None

    def __enter__(self) -> None:
        if self._run.is_cancelled:
            raise RunCancelled
        current = gevent.getcurrent()
        # A greenlet may be in two: for the chain, and for a model call inside it.
        if isinstance(current, gevent.Greenlet) and current not in self._run._greenlets:
            self._run._greenlets.add(current)
            self._entered = current

    def __exit__(self, *_: object) -> None:
        if self._entered is not None:
            self._run._greenlets.discard(self._entered)


current_run: ContextVar[Run | None] = ContextVar("current_run", default=None)


def report_progress(completed: int, total: int, message: str = "") -> None:
    """Report the progress of the current run to its client; outside a run, do nothing."""
    if run := current_run.get():
        run.progress = Progress(_count(completed), _count(total), str(message))


def _count(number: int) -> int:
    """Return a number that any store takes; a chain's author may pass anything."""
    return max(0, min(int(number), MAX_COUNT))
