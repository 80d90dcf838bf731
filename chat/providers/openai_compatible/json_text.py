"""JSON as servers write it and read it: by orjson, and by the standard library where that refuses.

Servers in Python write NaN and Infinity (log probabilities) and half of a surrogate pair, where
text was cut; both are no JSON to orjson. Integers beyond 64 bits are none either when it writes.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from chat.errors import UnreadableAnswer


def loads(data: bytes) -> Any:
    """Return the value of a JSON text; raises UnreadableAnswer."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data, strict=False)
    except (ValueError, RecursionError) as error:
        raise UnreadableAnswer from error


def exact_loads(data: bytes) -> Any:
    """Return the value of a JSON text that `loads` has read, with integers of any size."""
    return json.loads(data, strict=False)


def dumps(value: Any) -> bytes:
    """Return a value as JSON; half of a surrogate pair becomes U+FFFD."""
    try:
        return orjson.dumps(value)
    # A string or an integer that it cannot write, or a type that has no JSON.
    except TypeError:
        text = json.dumps(value, ensure_ascii=False)
        return whole_characters(text).encode()


def whole_characters(text: str) -> str:
    """Return text with U+FFFD in the position of each half of a surrogate pair that is alone."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
