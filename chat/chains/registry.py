"""Build chains: from a runnable's name to a runnable that is ready to be called.

A runnable's dotted path names a LangChain `Runnable`, or a function that takes a `BuildContext`
and returns one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from inspect import isclass
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string
from langchain_core.runnables import Runnable
from pydantic import BaseModel

from chat.chains.build_context import BuildContext
from chat.chains.config import ChainConfig
from chat.errors import BadChain
from chat.running.async_bridge import is_async_only

Builder = Callable[[BuildContext], Runnable[Any, Any]]


class ChatInput(Enum):
    """How a chain takes a list of chat messages."""

    MESSAGES = "messages"
    LIST = "list"
    TEXT = "text"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class BuiltChain:
    """A runnable, with what the APIs need to call it.

    `chat_input` is how messages reach it: as `{"messages": [...]}`, as a bare list, as the last
    user message's text under `text_key`, or not at all. `input_model` is the pydantic model that
    it takes instead of a dict.
    """

    config: ChainConfig
    runnable: Runnable[Any, Any]
    chat_input: ChatInput
    text_key: str
    input_model: type[BaseModel] | None
    is_async_only: bool


def build_chain(config: ChainConfig) -> BuiltChain:
    """Build a chain; raises BadChain with the reason when its configuration is wrong."""
    target = import_runnable(config.runnable)
    if isinstance(target, Runnable):
        runnable: Any = target
    else:
        try:
            runnable = target(BuildContext.of(config))
        except BadChain:
            raise
        # A builder is the team's own code and may raise anything.
        except Exception as error:
            raise BadChain(f"{config.runnable}: {type(error).__name__}: {error}") from error
        if not isinstance(runnable, Runnable):
            raise BadChain(
                f"{config.runnable} returned {type(runnable).__name__}, not a LangChain Runnable"
            )
    chat_input, text_key = read_chat_input(runnable)
    return BuiltChain(
        config=config,
        runnable=runnable,
        chat_input=chat_input,
        text_key=text_key,
        input_model=declared_model(runnable),
        is_async_only=is_async_only(runnable),
    )


def import_runnable(name: str) -> Runnable[Any, Any] | Builder:
    """Return the object that a name in CHAIN_RUNNABLES stands for; raises BadChain."""
    path = settings.CHAIN_RUNNABLES.get(name)
    if path is None:
        known = ", ".join(sorted(settings.CHAIN_RUNNABLES))
        raise BadChain(f"there is no runnable {name!r}; CHAIN_RUNNABLES has {known}")
    try:
        target = import_string(path)
    # A module of the team's own may fail in any way while it is imported.
    except Exception as error:
        raise BadChain(f"{name} ({path}): {type(error).__name__}: {error}") from error
    if not (isinstance(target, Runnable) or callable(target)):
        raise BadChain(f"{name} ({path}) is neither a Runnable nor a function")
    return target  # type: ignore[no-any-return]


def find_problems(config: ChainConfig) -> list[str]:
    """Return why a configuration cannot work, in sentences for staff; empty when it can.

    Builds the runnable, and the model if it uses it, but calls no provider.
    """
    try:
        build_chain(config)
    except BadChain as error:
        return [str(error)]
    return []


def read_chat_input(runnable: Runnable[Any, Any]) -> tuple[ChatInput, str]:
    """Return how chat messages fit a runnable, from its input schema.

    Returns the way and, for TEXT, the property that takes the text ("" is the bare string).
    """
    try:
        schema = runnable.get_input_jsonschema()
    # Pydantic raises its own errors for types that have no schema; such a chain is called by
    # LangServe's API alone.
    except Exception:
        return ChatInput.NONE, ""
    parts: Mapping[str, Any] = schema.get("$defs", {})
    schema = _resolve(schema, parts)
    choices = [_resolve(choice, parts) for choice in schema.get("anyOf", [schema])]
    # A chat model also takes prompt values, which have messages too: the plain list comes first.
    if "HumanMessage" in parts and any(choice.get("type") == "array" for choice in choices):
        return ChatInput.LIST, ""
    if any("messages" in choice.get("properties", {}) for choice in choices):
        return ChatInput.MESSAGES, ""
    if any(choice.get("type") == "string" for choice in choices):
        return ChatInput.TEXT, ""
    for choice in choices:
        properties: Mapping[str, Any] = choice.get("properties", {})
        required = choice.get("required") or list(properties)
        if len(required) == 1 and properties[required[0]].get("type") in ("string", None):
            return ChatInput.TEXT, required[0]
    if schema.keys() & {"type", "anyOf", "enum", "const"}:
        return ChatInput.NONE, ""
    # No declared type, as for a plain function: it gets the input of `assistant`.
    return ChatInput.MESSAGES, ""


def declared_model(runnable: Runnable[Any, Any]) -> type[BaseModel] | None:
    """Return the pydantic model of a runnable's input, if it is one."""
    try:
        declared = runnable.InputType
    # LangChain cannot determine the type of every runnable.
    except TypeError:
        return None
    return declared if isclass(declared) and issubclass(declared, BaseModel) else None


def _resolve(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with its own `$ref` followed, as stands for every TypedDict."""
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    return {**parts.get(name, {}), **schema}
