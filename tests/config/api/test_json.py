"""JSON in: a value or a clear error for every body."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.api.errors import ApiError
from config.api.json import count_items, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def nested(levels: int) -> bytes:
    """Return arrays in arrays."""
    return b"[" * levels + b"]" * levels


@given(raw=st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(raw=b"")
@example(raw=b"[" * 1_000_000)
@example(raw=nested(1_000_000))
@example(raw=b'{"a":' * 100_000)
@example(raw=b"NaN")
@example(raw=b"\xff\xfe{\x00")
@example(raw=b'"\\ud800"')
@example(raw=b"1" * 5000)
@example(raw=b"1e" + b"9" * 5000)
def test_no_bytes_raise_anything_but_an_api_error(raw: bytes) -> None:
    found: ApiError | None = None
    try:
        loads(raw)
    except ApiError as error:
        found = error
    if found is not None:
        assert found.status in (400, 413)
        assert len(found.message) < 1000


@given(value=VALUES)
def test_good_json_is_read_as_it_is(value: Any) -> None:
    assert loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"a": NaN}',
        b"[1,]",
        b"01",
        b"'a'",
        b'"\x00"',
        b'"\\ud83d"',
        b'"\xed\xb0\x80"',
        b"\xef\xbb\xbf\xef\xbb\xbf1",
        b"1\xef\xbb\xbf",
    ],
)
def test_what_json_does_not_have_is_refused(raw: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        loads(raw)
    assert caught.value.code == "invalid_json"


def test_a_byte_order_mark_before_a_body_is_skipped() -> None:
    assert loads(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 98765432109876543210987])
def test_an_integer_is_read_to_the_digit(number: int) -> None:
    assert loads(b'{"a": [%d]}' % number) == {"a": [number]}


def test_depth_is_counted_to_the_level(settings: Any) -> None:
    settings.MAX_JSON_DEPTH = 5
    loads(nested(5))
    loads(b'{"a":[{"b":[{"c":1}]}]}')
    for raw in (nested(6), b'{"a":[{"b":[{"c":[]}]}]}', b"[1,[2,[3,[4,[5,[6]]]]]]"):
        with pytest.raises(ApiError) as caught:
            loads(raw)
        assert caught.value.code == "json_too_deep"


def test_size_is_counted_to_the_byte(settings: Any) -> None:
    settings.MAX_BODY_BYTES = 1024
    loads(b'"' + b"x" * 1022 + b'"')
    with pytest.raises(ApiError) as caught:
        loads(b'"' + b"x" * 1023 + b'"')
    assert caught.value.status == 413


def test_a_wide_value_is_no_deep_one(settings: Any) -> None:
    settings.MAX_JSON_DEPTH = 4
    assert len(loads(b"[" + b",".join([b"[[1]]"] * 10_000) + b"]")) == 10_000


ITEMS = 100
TEXTS = [b'"a, b"', b'"[{"', b'"\\""', b'"\\\\"', b'"\\\\\\",[{"', b'"\\u0022,"', b'",,,,,,,,"']


@pytest.mark.parametrize("unit", [b"1", b"{}", b"[]", b'""', b'{"a":1}', b"[1]", *TEXTS])
def test_more_values_than_allowed_are_refused_before_they_are_parsed(
    settings: Any, unit: bytes
) -> None:
    settings.MAX_JSON_ITEMS = ITEMS
    with pytest.raises(ApiError) as caught:
        # No JSON: it ends too early.
        loads(b"[" + b",".join([unit] * 2 * ITEMS))
    assert caught.value.code == "json_too_many_items"
    assert "MAX_JSON_ITEMS" in caught.value.message


@pytest.mark.parametrize("text", TEXTS)
def test_what_stands_in_texts_is_no_value(settings: Any, text: bytes) -> None:
    settings.MAX_JSON_ITEMS = ITEMS
    assert len(loads(b"[" + b",".join([text] * (ITEMS - 1)) + b"]")) == ITEMS - 1
    settings.MAX_JSON_MEMBERS = 100
    loads(b'{"a": "' + b"[{,\\\\," * 10_000 + b'"}')


@given(value=VALUES)
def test_no_value_escapes_the_count(value: Any) -> None:
    fewer = max(0, values_in(value) - 2)
    assert count_items(orjson.dumps(value), fewer) >= values_in(value) - 1


def values_in(value: Any) -> int:
    """Return how many values a value is made of."""
    if isinstance(value, dict):
        return 1 + sum(map(values_in, value.values()))
    return 1 + sum(map(values_in, value)) if isinstance(value, list) else 1


def test_members_of_one_object_are_counted(settings: Any) -> None:
    settings.MAX_JSON_MEMBERS = 100
    members = b",".join(b'"%d":1' % number for number in range(101))
    with pytest.raises(ApiError) as caught:
        loads(b'{"a":[{' + members + b"}]}")
    assert caught.value.code == "json_too_many_members"
    assert "MAX_JSON_MEMBERS" in caught.value.message
