"""Texts cut into parts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.chains.splitting import split, weight

TEXT = st.lists(
    st.sampled_from(["\n\n", "\n", ". ", " ", "。", "a", "bc" * 40, "ж", "水車" * 9, "🌊"]),
    max_size=60,
)


@given(pieces=TEXT, size=st.integers(10, 50))
def test_nothing_is_lost_and_parts_are_neither_long_nor_many(pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    parts = list(split(text, size))
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)
    assert all(0 < weight(part) <= max(size, 8) for part in parts)
    # The last character of a part may be as heavy as eight letters.
    assert len(parts) <= 2 * weight(text) / max(1, size - 8) + 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" \n ", []),
        ("short", ["short"]),
        ("one two.\n\nthree", ["one two.", "three"]),
        ("one two\nthree four", ["one two", "three four"]),
        ("Ab cd. Ef ghij", ["Ab cd.", "Ef ghij"]),
        ("abcdefghijklmno", ["abcdefghij", "klmno"]),
    ],
)
def test_the_best_place_to_cut_is_taken(text: str, parts: list[str]) -> None:
    assert list(split(text, 10)) == parts


@pytest.mark.parametrize("unit", ["a", " ", "\n", "a ", "\n\na", "."])
def test_a_text_costs_by_its_length(unit: str) -> None:
    # A part is looked through once a separator; what is quadratic would take minutes.
    parts = sum(1 for _ in split(unit * (20_000_000 // len(unit)), 6000))
    assert parts <= 2 * 20_000_000 / 6000 + 1


@pytest.mark.parametrize(
    ("unit", "tokens_a_char"), [("word ", 0.25), ("слово ", 0.5), ("水車", 1.0), ("🌊", 2.0)]
)
def test_parts_of_any_script_have_about_as_many_tokens(unit: str, tokens_a_char: float) -> None:
    parts = list(split(unit * 5000, 6000))
    tokens = [len(part) * tokens_a_char for part in parts[:-1]]
    assert all(1200 <= count <= 2000 for count in tokens)
