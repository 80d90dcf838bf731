"""JSON whose integers are exact, and whose text is well-formed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.exact_json import dumps, loads

NUMBERS = [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**20, 98765432109876543210987, 10**300]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@dataclasses.dataclass
class Mass:
    """What a chain may return."""

    grams: int


@given(value=VALUES)
def test_every_value_is_read_as_it_was_written(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads(json.dumps(value)) == value


@pytest.mark.parametrize("number", NUMBERS)
def test_an_integer_is_exact_wherever_it_is(number: int) -> None:
    for value in (number, [number], {"a": number}, {"a": [{"b": -number}]}, [1, number, 2]):
        assert loads(dumps(value)) == value
        text = json.dumps(value, indent=1)
        assert loads(text) == value
        assert json.loads(dumps(value)) == value


def test_other_objects_may_hold_integers_too() -> None:
    assert dumps(Mass(2**64)) == b'{"grams":18446744073709551616}'
    assert dumps({1: 2**64}, option=orjson.OPT_NON_STR_KEYS) == b'{"1":18446744073709551616}'
    found = dumps([object(), 2**64], default=lambda value: {"n": 2**70})
    assert json.loads(found) == [{"n": 2**70}, 2**64]


@pytest.mark.parametrize("value", [object(), {"a": object(), "b": 2**64}])
def test_a_value_without_a_form_is_refused(value: Any) -> None:
    with pytest.raises(orjson.JSONEncodeError):
        dumps(value)


def test_an_integer_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(orjson.JSONEncodeError):
        dumps([10**5000])


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = [2**64]
    value.append(value)
    with pytest.raises(orjson.JSONEncodeError):
        dumps(value)


@given(text=st.text(alphabet=st.characters(codec=None)))
def test_any_text_is_written_well_formed(text: str) -> None:
    written = json.loads(dumps({text: [text]}))
    written_text = next(iter(written))
    written_text.encode()
    assert written[written_text] == [written_text]


def test_halves_of_a_pair_are_joined() -> None:
    assert dumps("yes \ud83c\udf0a no \udf0a") == '"yes 🌊 no \ufffd"'.encode()


@pytest.mark.parametrize(
    "text",
    [
        '"1234567890123456789012"',
        '{"1234567890123456789012": 1}',
        "1.5e300",
        '"id 12345678901234567890 x"',
    ],
)
def test_digits_that_are_no_integer_change_nothing(text: str) -> None:
    assert loads(text) == json.loads(text)
