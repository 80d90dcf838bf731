"""Runnables of the composed stack's tests, which call no model; mounted into its containers."""

import time
from typing import Any

from langchain_core.runnables import Runnable, RunnableLambda

SLOW_SECONDS = 0.5


def _echo(text: str) -> str:
    return text


def _slow(text: str) -> str:
    time.sleep(SLOW_SECONDS)
    return text


def echo(chain: Any) -> Runnable[Any, Any]:
    """Answer with the request's text."""
    return RunnableLambda(_echo)


def slow(chain: Any) -> Runnable[Any, Any]:
    """Do so after a while."""
    return RunnableLambda(_slow)
