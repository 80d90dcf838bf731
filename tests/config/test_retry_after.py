"""The pause that another server wants."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.retry_after import retry_after_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("3601", 3600),
        ("1e400", 3600),
        ("-1", 0),
        ("nan", 0),
        ("soon", 0),
        ("", 0),
        (None, 0),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0),
        ("Mon, 01 Jan 9999 00:00:00 GMT", 3600),
    ],
)
def test_a_pause_is_a_number_or_a_date(value: str | None, seconds: float) -> None:
    assert retry_after_seconds(value, most_seconds=3600) == seconds


def test_a_date_is_as_far_as_it_is() -> None:
    date = formatdate(time.time() + 1000, usegmt=True)
    assert 900 < retry_after_seconds(date, most_seconds=3600) <= 1000


@given(value=st.text())
def test_no_text_is_an_error(value: str) -> None:
    assert 0 <= retry_after_seconds(value, most_seconds=60) <= 60
