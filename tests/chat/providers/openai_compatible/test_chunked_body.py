"""Bodies in chunks: the same text wherever they are cut, and malformed framing is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.providers.openai_compatible.chunked_body import (
    MAX_LINE_BYTES,
    ChunkedBody,
    MalformedChunk,
)


def framed(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    cuts=st.lists(st.integers(min_value=0, max_value=250), max_size=8),
    trailers=st.sampled_from([b"0\r\n\r\n", b"000;name=value\r\nX-Sum: 1\r\n\r\n", b"0\n\n"]),
)
def test_the_body_is_the_same_wherever_it_is_cut(
    parts: list[bytes], cuts: list[int], trailers: bytes
) -> None:
    data = framed(*parts, end=trailers)
    body = ChunkedBody()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    decoded = [body.decode(data[a:b]) for a, b in itertools.pairwise(edges)]
    assert b"".join(decoded) == b"".join(parts)
    assert body.has_ended
    assert not body.has_excess


def test_bytes_after_the_end_are_seen() -> None:
    body = ChunkedBody()
    assert body.decode(framed(b"answer") + b"HTTP/1.1 200 OK") == b"answer"
    assert body.has_ended
    assert body.has_excess


def test_a_body_has_not_ended_before_its_trailers() -> None:
    body = ChunkedBody()
    body.decode(framed(b"answer", end=b"0\r\nX: 1\r\n"))
    assert not body.has_ended
    body.decode(b"\r\n")
    assert body.has_ended


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"-1\r\nx",
        b"+1\r\nx",
        b" 1\r\nx",
        b"0x1\r\nx",
        b"1_0\r\nx",
        b"g\r\n",
        b"1\r\nxy\r\n",
        b"1\r\nx1\r\ny\r\n",
        b"1\r\r\nx",
        b"ffffffffffffffff\r\n",
        b"<html>\r\n",
        b"1;" + b"x" * MAX_LINE_BYTES,
        b"0\r\nX: " + b"x" * MAX_LINE_BYTES + b"\r\n\r\n",
    ],
)
def test_framing_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedChunk):
        ChunkedBody().decode(data)
