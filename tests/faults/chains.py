"""Chains for the fault suite; the stack serves each under its own name."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import gevent
from gevent.monkey import get_original
from gevent.server import StreamServer
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from chat.running.run import report_progress

STEPS = 5
SECONDS = 1.5
# Longer than HAProxy needs to be sure.
DEAF_SECONDS = 20

native_sleep = get_original("time", "sleep")


def _slow(text: str) -> str:
    """Work in steps for a while, and return the text in capitals."""
    for step in range(STEPS):
        report_progress(step, STEPS, "working")
        time.sleep(SECONDS / STEPS)
    return text.upper()


def _quick(text: str) -> str:
    return text.upper()


def _deadly(text: str) -> str:
    """End the worker as the kernel does when memory is short."""
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
    return text


def _segfault(text: str) -> str:
    """End the worker as a bad extension does."""
    time.sleep(0.3)
    ctypes.string_at(0)
    return text


def _stuck(text: str) -> str:
    """Block the event loop, out of reach of any greenlet."""
    native_sleep(60)
    return text


def _busy(text: str) -> str:
    """Compute for ever."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        pass
    return text


def _unseen(text: str) -> str:
    """Block the event loop by code that is no run's."""
    gevent.spawn(native_sleep, 60)
    time.sleep(60)
    return text


def _deaf(values: Iterator[Any]) -> Iterator[AIMessageChunk]:
    """Let the node accept no connection for some seconds, and answer all the while."""
    servers: list[Any] = []
    accept = StreamServer.do_read

    def stop(server: Any) -> None:
        # Each connection that ends would start it again.
        server.start_accepting = lambda: None
        server.stop_accepting()
        servers.append(server)

    for _ in values:
        setattr(StreamServer, "do_read", stop)  # noqa: B010  (typed as its own)
        try:
            for number in range(DEAF_SECONDS):
                time.sleep(1)
                yield AIMessageChunk(content=f"{number} ")
        finally:
            setattr(StreamServer, "do_read", accept)  # noqa: B010
            for server in servers:
                del server.start_accepting
                server.start_accepting()


slow: Runnable[Any, Any] = RunnableLambda(_slow)
quick: Runnable[Any, Any] = RunnableLambda(_quick)
deadly: Runnable[Any, Any] = RunnableLambda(_deadly)
segfault: Runnable[Any, Any] = RunnableLambda(_segfault)
stuck: Runnable[Any, Any] = RunnableLambda(_stuck)
busy: Runnable[Any, Any] = RunnableLambda(_busy)
unseen: Runnable[Any, Any] = RunnableLambda(_unseen)
deaf: Runnable[Any, Any] = RunnableGenerator(_deaf)


def two_calls(chain: Any) -> Runnable[Any, Any]:
    """Call the model twice, with a pause between."""
    ask = chain.model | StrOutputParser()

    def run(text: str) -> str:
        first = ask.invoke(f"first {text}")
        time.sleep(3)
        return f"{first} {ask.invoke(f'second {text}')}"

    return RunnableLambda(run)


def ask(chain: Any) -> Runnable[Any, Any]:
    """Call the model once, and return its answer in capitals."""
    return chain.model | StrOutputParser() | RunnableLambda(str.upper)


NAMES = (
    "slow",
    "quick",
    "deadly",
    "segfault",
    "stuck",
    "busy",
    "unseen",
    "deaf",
    "two_calls",
    "ask",
)
