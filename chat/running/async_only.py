"""Tell runnables that can only be awaited."""

from typing import Any

from langchain_core.runnables import (
    Runnable,
    RunnableBinding,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
)

# `runnable.with_config(metadata={"async_only": True})` marks one that the walk cannot see through.
METADATA_KEY = "async_only"


def is_async_only(runnable: Runnable[Any, Any]) -> bool:
    """Say whether any step of a runnable has a coroutine function and no plain one."""
    if isinstance(runnable, RunnableLambda):
        return not hasattr(runnable, "func")
    if isinstance(runnable, RunnableGenerator):
        return not hasattr(runnable, "_transform")
    if isinstance(runnable, RunnableBinding):
        marked = (runnable.config.get("metadata") or {}).get(METADATA_KEY, False)
        return bool(marked) or is_async_only(runnable.bound)
    if isinstance(runnable, RunnableSequence):
        return any(is_async_only(step) for step in runnable.steps)
    if isinstance(runnable, RunnableParallel):
        return any(is_async_only(step) for step in runnable.steps__.values())
    return False
