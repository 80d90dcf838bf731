"""Texts cut into parts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.chains.splitting import split

TEXT = st.lists(st.sampled_from(["\n\n", "\n", ". ", " ", "。", "a", "bc" * 40]), max_size=60)


@given(pieces=TEXT, size=st.integers(2, 50))
def test_nothing_is_lost_and_parts_are_neither_long_nor_many(pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    parts = list(split(text, size))
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)
    assert all(0 < len(part) <= size for part in parts)
    assert len(parts) <= 2 * len(text) / size + 1


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
