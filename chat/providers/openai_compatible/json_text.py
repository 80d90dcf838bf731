"""JSON as servers write it: read by orjson, and by the standard library where that refuses.

Servers in Python write NaN and Infinity (log probabilities) and half of a surrogate pair, where
text was cut; both are no JSON to orjson.
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
