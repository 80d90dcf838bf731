"""Await coroutines from gevent's greenlets.

One native thread a process runs an asyncio loop for all the chains that can only be awaited. A
greenlet that waits for a coroutine leaves the hub free; killing it cancels the coroutine. What a
coroutine hands to a thread, as LangChain does with every step that cannot be awaited, runs as a
greenlet of the hub.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from selectors import BaseSelector
from typing import Any

import gevent
from gevent.event import Event
from gevent.monkey import get_original
from langchain_core.runnables import (
    Runnable,
    RunnableBinding,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
)

from chat.running.run import current_run
from scaling.connections import release_connections

STREAM_BUFFER_CHUNKS = 64
# `runnable.with_config(metadata={"async_only": True})` is for one that the walk cannot see through.
ASYNC_ONLY_KEY = "async_only"

_start_native_thread: Callable[..., int] = get_original("_thread", "start_new_thread")
# gevent's selector would wait for events in a hub, and the loop's thread has none that runs.
_NativeSelector: Callable[[], BaseSelector] = get_original("selectors", "DefaultSelector")
_loop: asyncio.AbstractEventLoop | None = None
_loop_lock = threading.Lock()


class _End:
    """Generations the end of a stream."""


class _Greenlets(ThreadPoolExecutor):
    """Runs functions as greenlets of the hub's thread.

    A thread of the pool would be a greenlet of the asyncio thread, where none ever runs; and a
    native one could not share a model's HTTP connections, which belong to the hub.
    """

    def __init__(self, hub: Any) -> None:
        super().__init__(max_workers=1)
        self._hub = hub

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a function; called in the asyncio thread."""
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            # RunCancelled among them: the coroutine that waits must get every end.
            except BaseException as error:
                future.set_exception(error)
            finally:
                release_connections()

        self._hub.loop.run_callback_threadsafe(gevent.spawn, work)
        return future


def is_async_only(runnable: Runnable[Any, Any]) -> bool:
    """Return whether any step of a runnable has a coroutine function and no plain one."""
    if isinstance(runnable, RunnableLambda):
        return not hasattr(runnable, "func")
    if isinstance(runnable, RunnableGenerator):
        return not hasattr(runnable, "_transform")
    if isinstance(runnable, RunnableBinding):
        marked = (runnable.config.get("metadata") or {}).get(ASYNC_ONLY_KEY, False)
        return bool(marked) or is_async_only(runnable.bound)
    if isinstance(runnable, RunnableSequence):
        return any(is_async_only(step) for step in runnable.steps)
    if isinstance(runnable, RunnableParallel):
        return any(is_async_only(step) for step in runnable.steps__.values())
    return False


def invoke_async(runnable: Runnable[Any, Any], value: Any, config: RunnableConfig | None) -> Any:
    """Return the output of `runnable.ainvoke`; raises its errors."""
    return wait_for(runnable.ainvoke(value, config))


def stream_async(
    runnable: Runnable[Any, Any], value: Any, config: RunnableConfig | None
) -> Iterator[Any]:
    """Yield the chunks of `runnable.astream`; closing the iterator cancels it."""
    queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=STREAM_BUFFER_CHUNKS)
    pump = _submit(_pump(runnable.astream(value, config), queue))
    try:
        while not isinstance(item := wait_for(queue.get()), _End):
            yield item
        _result(pump)
    finally:
        pump.cancel()


def wait_for(awaitable: Awaitable[Any]) -> Any:
    """Return the result of an awaitable, while other greenlets run."""
    return _result(_submit(awaitable))


async def _pump(chunks: AsyncIterator[Any], queue: asyncio.Queue[Any]) -> None:
    """Move a stream into a queue; all of it in one task, as contexts set in it may demand."""
    try:
        async for chunk in chunks:
            await queue.put(chunk)
    finally:
        # After a failure the reader finds the end, and then the error in this task's result.
        if not asyncio.current_task().cancelling():  # type: ignore[union-attr]
            await queue.put(_End())


def _submit(awaitable: Awaitable[Any]) -> Future[Any]:
    run = current_run.get()

    async def with_run() -> Any:
        # The loop's thread has its own context variables.
        current_run.set(run)
        return await awaitable

    return asyncio.run_coroutine_threadsafe(with_run(), _running_loop())


def _result(future: Future[Any]) -> Any:
    """Wait for a future of the loop's thread; a greenlet killed here cancels it."""
    if not future.done():
        wake = gevent.get_hub().loop.async_()
        is_done = Event()
        try:
            # The watcher runs before the other thread may send: a send to an idle one is lost.
            wake.start(is_done.set)
            future.add_done_callback(lambda _: wake.send())
            is_done.wait()
        except BaseException:
            future.cancel()
            raise
        finally:
            # Not closed: the other thread may be about to send. It goes with its last reference.
            wake.stop()
    return future.result(timeout=0)


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop  # noqa: PLW0603  (one loop a process, made on first use, after the fork)
    with _loop_lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.SelectorEventLoop(_NativeSelector())
            _loop.set_default_executor(_Greenlets(gevent.get_hub()))
            _start_native_thread(_loop.run_forever, ())
    return _loop
