"""Runnables that fail with texts that no log and no answer may show; part of `tests.chains`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

SECRET = "sk-this-must-never-be-seen"


class ProviderDown(Exception):
    """Looks like a provider's SDK's error."""

    status_code = 500


def _broken(value: Any) -> Any:
    raise RuntimeError(f"the key is {SECRET}")


def _quotes_input(value: Any) -> Any:
    try:
        raise ValueError(f"cannot read {value!r}")
    except ValueError as error:
        raise LookupError(value) from error


def _provider_down(value: Any) -> Any:
    raise ProviderDown(f"bad key {SECRET}")


def _fails_later(texts: Iterator[str]) -> Iterator[str]:
    yield from texts
    raise ProviderDown(f"bad key {SECRET}")


broken: Runnable[Any, Any] = RunnableLambda(_broken)
quotes_input: Runnable[Any, Any] = RunnableLambda(_quotes_input)
provider_down: Runnable[Any, Any] = RunnableLambda(_provider_down)
fails_later: Runnable[Any, Any] = RunnableGenerator(_fails_later).with_types(input_type=str)
