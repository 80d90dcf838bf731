"""Bodies of known length are read as gunicorn reads them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from hypothesis import given
from hypothesis import strategies as st

from node import gunicorn_body

NEXT = b"POST /next HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def parsed(pieces: list[bytes]) -> Iterator[tuple[Any, Any]]:
    """Yield gunicorn's parser and first request of a connection on which these pieces come."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        # What is not read breaks the connection.
        with contextlib.suppress(BrokenPipeError):
            for piece in pieces:
                theirs.sendall(piece)
        with contextlib.suppress(OSError):
            theirs.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        parser = get_parser(Config(), ours, ("127.0.0.1", 1))
        yield parser, next(parser)
    finally:
        ours.close()
        sender.join()
        theirs.close()


def head(length: int) -> bytes:
    return f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


@given(
    body=st.binary(max_size=300),
    missing=st.integers(0, 20),
    cut=st.integers(0, 300),
    sizes=st.lists(st.one_of(st.none(), st.integers(-1, 320)), max_size=5),
)
def test_a_body_is_read_as_gunicorn_reads_it(
    body: bytes, missing: int, cut: int, sizes: list[int | None]
) -> None:
    length = len(body) + missing
    # What comes after a complete body is the next request.
    data = body if missing else body + NEXT
    pieces = [head(length) + data[:cut], data[cut:]]
    with parsed(pieces) as (parser, request), parsed(pieces) as (other_parser, other):
        for size in [*sizes, None]:
            assert gunicorn_body.read(request.body, size) == other.body.read(size)
        if not missing:
            assert next(parser).path == next(other_parser).path == "/next"


@pytest.mark.parametrize("read", [0, 10, 400_000])
def test_what_is_left_of_a_body_is_discarded(read: int) -> None:
    body = b"x" * 500_000
    with parsed([head(len(body)) + body[:5000], body[5000:] + NEXT]) as (parser, request):
        gunicorn_body.read(request.body, read)
        assert gunicorn_body.unread_bytes(request.body) == len(body) - read
        assert gunicorn_body.finish(request.body)
        assert next(parser).path == "/next"


@pytest.mark.parametrize("length", [20, gunicorn_body.LINGER_BYTES + 100_000])
def test_a_body_that_ends_early_or_never_is_not_finished(length: int) -> None:
    sent = 10 if length == 20 else length
    with parsed([head(length), b"x" * sent]) as (_, request):
        assert not gunicorn_body.finish(request.body)


def test_a_body_whose_connection_breaks_has_failed() -> None:
    with parsed([head(100) + b"x"]) as (_, request):
        request.body.reader.unreader.sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            gunicorn_body.read(request.body)
        assert request.body.failed
        assert not gunicorn_body.finish(request.body)
