"""The fast path reads a request as gunicorn does, or leaves it to gunicorn."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.fast_path import HEADERS, FastPath, FastResponse
from tests.support.examples import share

PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"
FAST = FastResponse("200 OK", [], b"early")

Asked = tuple[str, dict[str, str], bytes]

NAMES = st.one_of(
    st.sampled_from(sorted(HEADERS)),
    st.sampled_from(["Host", "transfer-encoding", "expect", "x-stainless-lang", "CONTENT-LENGTH"]),
    st.text("-_ ()abz019:\t\x00\xe4\u212a\r\n,;/@", max_size=4).map(
        lambda end: f"x-stainless-{end}"
    ),
    st.text(max_size=6),
)
VALUES = st.one_of(
    st.sampled_from(["2", "02", "+2", " 2 ", "keep-alive", "Keep-Alive", "close", "chunked", ""]),
    st.text(max_size=8),
)
LINES = st.tuples(NAMES, st.sampled_from([":", ": ", " : ", "", ":\t"]), VALUES).map("".join)
FIRST_LINES = st.one_of(
    st.just("POST /v1/chat/completions HTTP/1.1"),
    st.tuples(
        st.sampled_from(["POST", "post", "GET", "POST ", "P\x00ST"]),
        st.sampled_from([" ", "  ", "\t"]),
        st.sampled_from(["/a", "/a?b", "/a#b", "//a", "/%zz", "*", "http://a/b", "/\xe4", "/a b"]),
        st.sampled_from([" ", "  "]),
        st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.1 ", "http/1.1", "HTTP/2.0"]),
    ).map("".join),
)
BODIES = st.sampled_from([b"{}", b"", b"{", b"{} ", b"{}\r\n\r\nPOST / HTTP/1.1\r\n\r\n"])


def latin(text: str) -> bytes:
    return text.encode("latin-1", "ignore")


@st.composite
def built(draw: st.DrawFn) -> bytes:
    """A request made of lines, most of which are right."""
    right = ["host: localhost", "content-length: 2"]
    lines = draw(st.permutations([*right, *draw(st.lists(LINES, max_size=3))]))
    end = draw(st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"]))
    return latin(end.join([draw(FIRST_LINES), *lines]) + end * 2) + draw(BODIES)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A right request with some bytes of it replaced."""
    data = PLAIN
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 2))
        data = data[:at] + draw(st.binary(max_size=2)) + data[at + gone :]
    return data


def read_early(data: bytes) -> Asked | None:
    """Return what the fast path would answer, or None for what it leaves to gunicorn."""
    asked: list[Asked] = []

    def ask(path: str, headers: Mapping[str, str], body: bytes) -> FastResponse:
        asked.append((path, dict(headers), body))
        return FAST

    fast_path = FastPath(ask, SimpleNamespace(alive=True))
    reply = fast_path.answer(data, is_last=False)
    assert (reply is None) == (not asked)
    return asked[0] if asked else None


def read_by_gunicorn(data: bytes) -> Asked:
    """Return the one request that gunicorn finds in these bytes; raises what it raises."""
    parser = RequestParser(Config(), iter([data]), ("127.0.0.1", 1))
    request = next(parser)
    assert request.method == "POST"
    assert request.version == (1, 1)
    assert not request.should_close()
    headers = {name.lower(): value for name, value in request.headers}
    assert len(headers) == len(request.headers)
    body: bytes = request.body.read()
    # Nothing is left that it would take for another request.
    with pytest.raises(StopIteration):
        next(parser)
    return request.uri, headers, body


@settings(max_examples=share(500))
@given(st.one_of(built(), damaged(), st.binary(max_size=200)))
@example(PLAIN)
@example(PLAIN.replace(b"host: ", b"x-stainless-(x): a\r\nhost: "))
@example(PLAIN.replace(b"host: ", b"x-stainless- : a\r\nhost: "))
@example(PLAIN.replace(b"host: ", b"x-stainless-: a\r\nhost: "))
def test_the_fast_path_agrees_with_gunicorn_or_declines(data: bytes) -> None:
    asked = read_early(data)
    if asked is not None:
        assert asked == read_by_gunicorn(data)


@pytest.mark.parametrize("end", ["(x)", "[", "a b", "a/b", "a,b", "ä", "", "_a", "a_"])
def test_a_name_that_is_no_plain_token_is_gunicorns(end: str) -> None:
    data = PLAIN.replace(b"host: ", b"x-stainless-" + latin(end) + b": a\r\nhost: ")
    assert read_early(data) is None


def test_a_plain_request_is_taken() -> None:
    assert read_early(PLAIN) == read_by_gunicorn(PLAIN)
    with pytest.raises(ParseException):
        read_by_gunicorn(PLAIN.replace(b"host", b"ho(t"))
