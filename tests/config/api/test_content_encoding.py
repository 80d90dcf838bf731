"""Bodies that clients have compressed."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from config.api.content_encoding import decoded, refuse_encoded
from config.api.errors import ApiError
from config.api.json import JsonParser

TEXT = b'{"a": "' + b"x" * 1000 + b'"}'


def gzipped(text: bytes) -> bytes:
    """Return the same bytes at any time: every process of `make test` collects the same tests."""
    return gzip.compress(text, mtime=0)


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (TEXT, ""),
        (TEXT, "identity"),
        (gzipped(TEXT), "gzip"),
        (gzipped(TEXT), " X-GZIP "),
        (gzipped(TEXT[:9]) + gzipped(TEXT[9:]), "gzip"),
        (zlib.compress(TEXT), "deflate"),
    ],
)
def test_a_body_is_decoded(raw: bytes, encoding: str) -> None:
    assert decoded(raw, encoding) == TEXT


@pytest.mark.parametrize(
    ("raw", "encoding", "status", "code"),
    [
        (TEXT, "gzip", 400, "invalid_encoding"),
        (gzipped(TEXT)[:-9], "gzip", 400, "invalid_encoding"),
        (gzipped(TEXT) + b"more", "gzip", 400, "invalid_encoding"),
        (TEXT, "br", 415, "unsupported_encoding"),
        (TEXT, "gzip, gzip", 415, "unsupported_encoding"),
        (TEXT, "x" * 10_000, 415, "unsupported_encoding"),
    ],
)
def test_what_is_not_as_it_says_is_refused(
    raw: bytes, encoding: str, status: int, code: str
) -> None:
    with pytest.raises(ApiError) as caught:
        decoded(raw, encoding)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert len(caught.value.message) < 200
    assert ("Accept-Encoding" in caught.value.headers) == (status == 415)


@given(raw=st.binary(), encoding=st.sampled_from(["gzip", "deflate"]))
def test_no_bytes_raise_anything_but_an_api_error(raw: bytes, encoding: str) -> None:
    found: ApiError | None = None
    try:
        decoded(raw, encoding)
    except ApiError as error:
        found = error
    assert found is None or found.status == 400


@pytest.mark.parametrize("factor", [1, 1000])
def test_a_small_body_that_becomes_a_large_one_is_not_decoded_to_its_end(
    settings: Any, factor: int
) -> None:
    settings.MAX_BODY_BYTES = 100_000
    raw = gzip.compress(b" " * (100_001 * factor))
    assert len(decoded(raw, "gzip")) == 100_001
    many = gzip.compress(b" " * 10_000) * 11 * factor
    assert len(decoded(many, "gzip")) == 100_001


def test_a_json_body_is_read_by_its_encoding(settings: Any) -> None:
    settings.MAX_BODY_BYTES = 2000

    def read(raw: bytes, encoding: str) -> Any:
        parsers: list[BaseParser] = [JsonParser()]
        made = APIRequestFactory().post(
            "/", raw, content_type="application/json", headers={"Content-Encoding": encoding}
        )
        return Request(made, parsers=parsers).data

    assert read(gzip.compress(b'{"a": 1}'), "gzip") == {"a": 1}
    for raw in (gzip.compress(b'{"a": "%b"}' % (b"x" * 5000)), b" " * 3000):
        with pytest.raises(ApiError) as caught:
            read(raw, "gzip")
        assert caught.value.status == 413


def test_a_form_has_no_encoding() -> None:
    refuse_encoded("")
    refuse_encoded("identity")
    with pytest.raises(ApiError) as caught:
        refuse_encoded("gzip")
    assert (caught.value.status, caught.value.headers["Accept-Encoding"]) == (415, "identity")
