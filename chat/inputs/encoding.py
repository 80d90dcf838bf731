"""A chain's output as JSON, in the forms that LangServe's client reads back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
from langchain_core.prompt_values import ChatPromptValue
from pydantic import BaseModel

from chat.errors import ChainBroken
from config import exact_json

logger = logging.getLogger(__name__)


def encode(output: Any) -> bytes:
    """Return the JSON; raises ChainBroken for a value without a JSON form.

    Messages, documents and prompt values become objects with their `type`, other pydantic models
    and dataclasses become objects without one.
    """
    try:
        return exact_json.dumps(output, default=_jsonable, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        # The text names a type, or says that a text is not UTF-8, and quotes nothing.
        logger.error("a chain's output has no JSON: %s", error.__cause__ or error)
        raise ChainBroken from error


def output_of(body: bytes) -> bytes:
    """Return the output's JSON from an answer of `invoke`, whose last member is its metadata."""
    return body[len(b'{"output":') : body.rindex(b',"metadata":')]


def _jsonable(value: Any) -> Any:
    if isinstance(value, ChatPromptValue):
        # pydantic would write the messages by their common base class, and lose tool calls.
        return {"type": "ChatPromptValueConcrete", "messages": list(value.messages)}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", serialize_as_any=True, fallback=_jsonable)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
