"""OpenAI's SDK sends plain JSON as it is, and everything else as before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
from langchain_core.messages import content

# What the SDK does with a request before it sends it; it has no public names for it.
from openai._utils import PropertyInfo
from openai._utils._transform import maybe_transform
from openai.resources.chat.completions import completions
from openai.types.chat import ChatCompletionMessage, completion_create_params
from openai.types.responses import response_create_params
from typing_extensions import is_typeddict

from chat.providers import request_types

BODIES = (
    completion_create_params.CompletionCreateParamsNonStreaming,
    completion_create_params.CompletionCreateParamsStreaming,
    response_create_params.ResponseCreateParamsNonStreaming,
    response_create_params.ResponseCreateParamsStreaming,
)
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGES = [
    {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c", "content": "1"},
]


@pytest.fixture
def transform() -> Any:
    """The function by which the SDK transforms, as a chain's model has it."""
    request_types.install()
    module: Any = completions
    return module.maybe_transform


def types_in(annotation: Any, seen: set[Any]) -> Iterator[Any]:
    """Yield all annotations that are part of one."""
    if isinstance(annotation, type) and is_typeddict(annotation):
        if annotation in seen:
            return
        seen.add(annotation)
        parts = tuple(get_type_hints(annotation, include_extras=True).values())
    else:
        parts = (*get_args(annotation), *getattr(annotation, "__metadata__", ()))
    for part in parts:
        yield part
        yield from types_in(part, seen)


@pytest.mark.parametrize("body", BODIES)
def test_no_type_of_a_request_is_renamed_or_formatted(body: Any) -> None:
    infos = [part for part in types_in(body, set()) if isinstance(part, PropertyInfo)]
    assert [info for info in infos if info.alias or info.format] == []


def test_the_types_are_walked_to_their_ends() -> None:
    seen: set[Any] = set()
    list(types_in(BODIES[0], seen))
    assert "ChatCompletionContentPartImageParam" in {found.__name__ for found in seen}


def test_plain_messages_are_sent_as_they_are(transform: Any) -> None:
    body = {"model": "m", "messages": MESSAGES, "stop": ["x"]}
    sent = transform(body, BODIES[0])
    assert sent == body == maybe_transform(body, BODIES[0])
    assert sent["messages"] is MESSAGES


def test_models_of_the_sdk_are_transformed_as_before(transform: Any) -> None:
    answer = ChatCompletionMessage(role="assistant", content="x")
    body = {"model": "m", "messages": [*MESSAGES, answer]}
    sent = transform(body, BODIES[0])
    assert sent["messages"] == [*MESSAGES, {"role": "assistant", "content": "x"}]


def test_langchain_works_out_its_types_of_content_once(transform: Any) -> None:
    # The function of LangChain that ours replaces.
    types: Any = content._get_data_content_block_types  # noqa: SLF001
    before = types.cache_info().misses
    parts = [{"type": "text", "text": "x"}, {"type": "image", "url": "https://x"}]
    assert [content.is_data_content_block(part) for part in parts * 3] == [False, True] * 3
    assert types.cache_info().misses <= max(before, 1)
