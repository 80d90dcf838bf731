"""Text from outside in a form that PostgreSQL stores."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from config.text import TextPieces, storable, well_formed


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain", "plain"),
        ("a\0b", "ab"),
        ("\ud83d half", "\ufffd half"),
        ("😀", "😀"),
        ("\ud83d\ude00", "😀"),
        ("", ""),
    ],
)
def test_only_nul_and_lone_surrogates_change(text: str, stored: str) -> None:
    assert storable(text) == stored


@hypothesis.given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_becomes_utf_8_without_nul(text: str) -> None:
    found = storable(text)
    assert "\0" not in found
    found.encode()
    assert storable(found) == found


@hypothesis.given(
    st.lists(st.text(alphabet=st.characters(codec=None)) | st.sampled_from("\ud83c\udf0a"))
)
def test_pieces_of_a_text_are_well_formed_and_are_the_text(given: list[str]) -> None:
    pieces = TextPieces()
    found = [pieces.add(piece) for piece in given] + [pieces.end()]
    for piece in found:
        piece.encode()
    assert "".join(found) == well_formed("".join(given))
