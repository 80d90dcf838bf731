"""Run a chain for a client: with a deadline, heartbeats, and an end when the client disconnects.

The chain runs in a greenlet of its own while the request's greenlet waits for it, for the clock
and for the client's socket. So a chain may block anywhere and can still be stopped, and a stream
can send heartbeats while its model is silent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

import gevent
from django.conf import settings
from langchain_core.runnables import RunnableConfig

from chat import metrics
from chat.chains.registry import BuiltChain
from chat.errors import ChainBroken, ChainTimeout, ClientGone, ServerDraining
from chat.providers.errors import to_provider_error
from chat.running.async_bridge import invoke_async, stream_async
from chat.running.handoff import Handoff
from chat.running.run import Progress, Run, RunCancelled, current_run
from config.api.errors import ApiError
from config.request_setup import mark_dispatched
from node.draining import DRAINING
from scaling.connections import release_connections
from scaling.replicas.read_context import ReadContext, activate

logger = logging.getLogger(__name__)

# Chunks a fast model may be ahead of a slow client; then the model waits.
STREAM_BUFFER_CHUNKS = 64


class Client(Protocol):
    """The client of a run, which may disconnect before the run ends."""

    is_gone: bool

    def watch(self, on_gone: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `on_gone` once, in this thread and without blocking, when the client disconnects."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """Pieces of a chain's output that were ready at one moment, in their order; at least one."""

    values: list[Any]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The chain has sent nothing for STREAM_HEARTBEAT_SECONDS, and still runs."""

    progress: Progress | None


@dataclass(frozen=True, slots=True)
class _Done:
    value: Any = None


@dataclass(frozen=True, slots=True)
class _Failed:
    error: ApiError
    # The chain's own exception, where `error` only stands for it.
    cause: Exception | None = None


_ENDS = (_Done, _Failed)


@dataclass(frozen=True, slots=True)
class Call:
    """One call: a chain, its input and its run; `api` is the API's name in metrics."""

    chain: BuiltChain
    value: Any
    run: Run
    api: str
    config: RunnableConfig | None = None
    # The read context of the chain's queries; None for the request's own.
    read_context: ReadContext | None = None


def invoke(call: Call, client: Client) -> Any:
    """Return a chain's output; raises ApiError.

    Releases this greenlet's database connections first: a chain may take minutes.
    """
    release_connections()
    started = time.monotonic()
    worker = spawn(_work, call, _invoke_chain)
    try:
        with client.watch(call.run.cancel), DRAINING.watch(call.run.cancel):
            worker.join(timeout=call.run.seconds_left())
        outcome = _collect(worker, call, client)
    finally:
        call.run.cancel()
    _record(call, outcome, started)
    if isinstance(outcome, _Failed):
        raise outcome.error from outcome.cause
    return outcome.value


def stream(
    call: Call, client: Client, *, beat_seconds: float | None = None, is_unary: bool = False
) -> Generator[Chunks | Heartbeat]:
    """Yield a chain's output as it comes, and heartbeats; raises ApiError.

    What is ready is yielded together, and nothing waits for what is still to come. Closing the
    iterator aborts the chain. The database connections are released first. A heartbeat comes after
    each `beat_seconds` of silence (None: STREAM_HEARTBEAT_SECONDS).
    `is_unary` yields the output in one piece.
    """
    if beat_seconds is None:
        beat_seconds = settings.STREAM_HEARTBEAT_SECONDS
    release_connections()
    started = time.monotonic()
    handoff = Handoff(STREAM_BUFFER_CHUNKS)

    def put_chunks(call: Call) -> None:
        for value in [_invoke_chain(call)] if is_unary else _stream_chain(call):
            # Of a chain that went on after it was cancelled.
            if call.run.is_cancelled:
                raise RunCancelled
            handoff.put(value)
            # The next one may take long, and the client has this one.
            del value

    def produce() -> None:
        end = _work(call, put_chunks)
        if not is_over:
            handoff.put(end)

    def abort() -> None:
        call.run.cancel()
        handoff.put_at_once(_Failed(ClientGone()))

    spawn(produce)
    is_over = False
    outcome: _Done | _Failed | None = None
    try:
        with client.watch(abort), DRAINING.watch(abort):
            while outcome is None:
                items = _next_items(handoff, call, beat_seconds)
                if not items:
                    yield Heartbeat(call.run.progress)
                    continue
                values = list(takewhile(_is_value, items))
                end = items[len(values)] if len(values) < len(items) else None
                # The client may wait long for the next ones.
                del items
                if values:
                    yield Chunks(values)
                del values
                if end is not None:
                    outcome = _cancellation_cause(end, client)
    finally:
        is_over = True
        call.run.cancel()
        # The last `put` of a producer without a reader would wait for ever.
        handoff.take_ready()
        _record(call, outcome or _Failed(ClientGone()), started)
    if isinstance(outcome, _Failed):
        raise outcome.error from outcome.cause


def spawn(work: Callable[..., Any], *arguments: Any) -> gevent.Greenlet[..., Any]:
    """Start a greenlet with a copy of this one's context variables, which gevent would not make."""
    greenlet = gevent.Greenlet(work, *arguments)
    greenlet.gr_context = copy_context()
    greenlet.start()
    return greenlet


def _next_items(handoff: Handoff, call: Call, beat_seconds: float) -> list[Any]:
    """Return what is ready next, at the deadline its failure; nothing after `beat_seconds`."""
    left = call.run.seconds_left()
    # The consumer of the items may have queried the database in between.
    release_connections()
    items = handoff.take(min(left, beat_seconds))
    if not items and call.run.seconds_left() <= 0:
        return [_Failed(ChainTimeout(call.run.timeout_seconds))]
    return items


def _is_value(item: Any) -> bool:
    return not isinstance(item, _ENDS)


def _work(call: Call, do: Callable[[Call], Any]) -> _Done | _Failed:
    """Run in the chain's greenlet; return its end, success or failure, as a value."""
    mark_dispatched()
    call.run.chain = call.chain.config
    current_run.set(call.run)
    if call.read_context is not None:
        activate(call.read_context)
    try:
        with call.run.cancellable():
            return _Done(do(call))
    except RunCancelled:
        return _Failed(ClientGone())
    except ApiError as error:
        return _Failed(error)
    # A chain is the team's own code and may raise anything, a provider's error among it.
    except Exception as error:
        if provider_error := to_provider_error(error):
            return _Failed(provider_error, error)
        logger.exception("chain %s failed", call.chain.config.slug)
        return _Failed(ChainBroken(), error)
    except gevent.GreenletExit:
        raise
    # sys.exit() in a chain must not end the process with all other requests.
    except BaseException:
        logger.exception("chain %s failed", call.chain.config.slug)
        return _Failed(ChainBroken())
    finally:
        release_connections()


def _invoke_chain(call: Call) -> Any:
    if call.chain.is_async_only:
        return invoke_async(call.chain.runnable, call.value, call.config)
    return call.chain.runnable.invoke(call.value, call.config)


def _stream_chain(call: Call) -> Iterator[Any]:
    if call.chain.is_async_only:
        return stream_async(call.chain.runnable, call.value, call.config)
    return call.chain.runnable.stream(call.value, call.config)


def _cancellation_cause(outcome: _Done | _Failed, client: Client) -> _Done | _Failed:
    """Return the cause of a cancellation: the client disconnected, or this process must stop."""
    is_cancelled = isinstance(outcome, _Failed) and isinstance(outcome.error, ClientGone)
    if is_cancelled and DRAINING.is_over and not client.is_gone:
        return _Failed(ServerDraining())
    return outcome


def _collect(worker: Any, call: Call, client: Client) -> _Done | _Failed:
    if worker.ready() and not client.is_gone:
        return _cancellation_cause(worker.value, client)
    return _Failed(ClientGone() if client.is_gone else ChainTimeout(call.run.timeout_seconds))


def _record(call: Call, outcome: _Done | _Failed, started: float) -> None:
    slug = call.chain.config.slug
    ended = "ok" if isinstance(outcome, _Done) else (outcome.error.code or "error")
    metrics.CHAIN_CALLS.labels(chain=slug, api=call.api, outcome=ended).inc()
    metrics.CHAIN_SECONDS.labels(chain=slug).observe(time.monotonic() - started)
    usage = call.run.usage
    if usage.is_reported:
        metrics.TOKENS.labels(chain=slug, kind="prompt").inc(usage.prompt_tokens)
        metrics.TOKENS.labels(chain=slug, kind="completion").inc(usage.completion_tokens)
