"""Text from outside in a form that PostgreSQL stores."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from config.text import storable


@pytest.mark.parametrize(
    ("text", "stored"),
    [("plain", "plain"), ("a\0b", "ab"), ("\ud83d half", "? half"), ("😀", "😀"), ("", "")],
)
def test_only_nul_and_lone_surrogates_change(text: str, stored: str) -> None:
    assert storable(text) == stored


@hypothesis.given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_becomes_utf_8_without_nul(text: str) -> None:
    found = storable(text)
    assert "\0" not in found
    found.encode()
    assert storable(found) == found
