"""Skip the walk along types that libraries make for each message between chain and provider.

- OpenAI's SDK renames keys and formats values as the annotations of their types say, trying each
  member of each union in turn: 0.7 s of the event loop for a thousand messages of four parts. No
  type of chat completions and of responses has such an annotation (held by a test), so that the
  walk returns plain JSON as it was. Other values are walked as before.
- LangChain computes the types of content blocks, which never change, for each part of each message:
  as long again.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain_core.messages import content

# Of OpenAI's SDK, where it is loaded.
MODULES = (
    "openai.resources.chat.completions.completions",
    "openai.resources.responses.responses",
)
SCALARS = frozenset({str, int, float, bool, type(None)})

Transform = Callable[[Any, Any], Any]


def install() -> None:
    """Wrap the functions that walk, of libraries that are loaded; a second call does nothing."""
    types_of_blocks: Any = content._get_data_content_block_types
    if not hasattr(types_of_blocks, "cache_info"):
        _set(content, "_get_data_content_block_types", functools.cache(types_of_blocks))
    for name in MODULES:
        module = sys.modules.get(name)
        if module is None or hasattr(module.maybe_transform, "leaves_plain"):
            continue
        _set(module, "maybe_transform", _leaving_plain(module.maybe_transform))
        _set(module, "async_maybe_transform", _leaving_plain_async(module.async_maybe_transform))


def _set(module: Any, name: str, function: Any) -> None:
    setattr(module, name, function)


def _leaving_plain(transform: Transform) -> Transform:
    def transform_rest(data: Any, expected_type: Any) -> Any:
        plain, rest = split(data)
        transformed = transform(rest, expected_type)
        return {**plain, **transformed} if plain else transformed

    transform_rest.leaves_plain = True  # type: ignore[attr-defined]
    return transform_rest


def _leaving_plain_async(
    transform: Callable[[Any, Any], Awaitable[Any]],
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def transform_rest(data: Any, expected_type: Any) -> Any:
        plain, rest = split(data)
        transformed = await transform(rest, expected_type)
        return {**plain, **transformed} if plain else transformed

    return transform_rest


def split(data: Any) -> tuple[dict[str, Any], Any]:
    """Return the long members of a body that are plain JSON, and the body without them."""
    if not isinstance(data, Mapping):
        return {}, data
    plain = {name: value for name, value in data.items() if type(value) is list and is_plain(value)}
    return plain, {name: value for name, value in data.items() if name not in plain}


def is_plain(value: list[Any]) -> bool:
    """Return whether a list holds only JSON's types; without recursion, for it may be deep."""
    rest: list[Any] = [value]
    while rest:
        item = rest.pop()
        children = item if type(item) is list else item.values()
        for child in children:
            if type(child) in SCALARS:
                continue
            if type(child) is not dict and type(child) is not list:
                return False
            rest.append(child)
    return True
