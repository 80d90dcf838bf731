"""JSON by orjson, for values that orjson alone would refuse or round.

It reads an integer of more than 64 bits as the nearest float, and refuses to write one; and it
refuses to write half a surrogate pair, which models send where they cut an emoji.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import orjson

from config.text import well_formed

# 2**63 has nineteen digits. Digits are found as zeros, several times faster than by a pattern.
_TO_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG = b"0" * 19
_LONG_INTEGER = re.compile(rb"(?:^|[\s:,\[])-?\d{19,}(?:[\s,\]}]|$)")
_INTEGERS = range(-(2**63), 2**64)
# Deeper than orjson itself writes.
_MAX_DEPTH = 254

Default = Callable[[Any], Any]


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON text, integers to the digit; raises orjson.JSONDecodeError."""
    value = orjson.loads(text)
    raw = text.encode() if isinstance(text, str) else text
    return json.loads(raw) if has_long_integer(raw) else value


def has_long_integer(raw: bytes) -> bool:
    """Return whether a JSON text may hold an integer of more than 64 bits."""
    found = raw.translate(_TO_ZEROS).find(_LONG)
    return found >= 0 and _LONG_INTEGER.search(raw, max(0, found - 2)) is not None


def dumps(value: Any, *, default: Default | None = None, option: int = 0) -> bytes:
    """Return a value's JSON; raises orjson.JSONEncodeError for one without a JSON form.

    `default` returns the form of an object of another type. Half a surrogate pair is U+FFFD.
    """
    try:
        return orjson.dumps(value, default=default, option=option)
    # Slower, and rare.
    except orjson.JSONEncodeError:
        return orjson.dumps(_writable(value, default, 0), option=option)


def _writable(value: Any, default: Default | None, depth: int) -> Any:
    """Return a copy of a value in which orjson finds only what it writes."""
    if depth > _MAX_DEPTH:
        raise orjson.JSONEncodeError("Recursion limit reached")
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if value in _INTEGERS else orjson.Fragment(_digits(value))
    if isinstance(value, dict):
        return {
            well_formed(key) if isinstance(key, str) else key: _writable(item, default, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_writable(item, default, depth + 1) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _writable(fields, default, depth + 1)
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        if default is None:
            raise
        return _writable(default(value), default, depth + 1)
    return value


def _digits(value: int) -> str:
    try:
        return str(value)
    # Python refuses to write more than some thousand digits.
    except ValueError as error:
        raise orjson.JSONEncodeError("Integer has too many digits") from error
