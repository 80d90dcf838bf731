"""Read and discard gunicorn's request bodies of known length at the cost of their bytes.

gunicorn copies each byte of a large body some five times, and what is left of a read-ahead of a
megabyte at each read of less; most of the time of a node under large bodies went there.
"""

from __future__ import annotations

import io
from typing import Any

import gevent
from gunicorn.http.body import LengthReader

# What one system call reads. More would be allocated for a client that sends a little at a time.
READ_BYTES = 256 * 1024
DISCARD_BYTES = 64 * 1024
LINGER_SECONDS = 1.0
LINGER_BYTES = 8 * 1024 * 1024

# Its content is never read, so all connections discard into this one.
_discarded = bytearray(DISCARD_BYTES)


def read(body: Any, size: int | None = None) -> bytes:
    """Return up to `size` bytes of a gunicorn Body, all of them by default; fewer at its end.

    Raises what its socket raises; the body has failed then, and its connection must close.
    """
    reader = getattr(body, "reader", None)
    if not isinstance(reader, LengthReader) or body.buf.tell():
        whole: bytes = body.read(size)
        return whole
    wanted = reader.length if size is None or size < 0 else min(size, reader.length)
    data = _take_buffered(reader.unreader, wanted)
    if len(data) < wanted:
        data = _receive(body, data, wanted)
    reader.length -= wanted
    return data


def finish(body: Any) -> bool:
    """Read what the application left of a gunicorn Body, for a moment; return whether that is all.

    A client that is refused while it still sends can read its answer in that time (as nginx
    lingers).
    """
    if body.failed:
        return False
    # So are nearly all, and each request ends here.
    if getattr(body.reader, "length", None) == 0:
        return True
    try:
        with gevent.Timeout(LINGER_SECONDS, TimeoutError()):
            return _discard(body, LINGER_BYTES)
    # A body that cannot be read has no end; the answer has the reason.
    except Exception:
        return False


def unread_bytes(body: Any) -> int:
    """Return how many bytes of a gunicorn Body are not read yet; 0 of a chunked one."""
    return body.reader.length if isinstance(body.reader, LengthReader) else 0


def _take_buffered(unreader: Any, wanted: int) -> bytes:
    """Take up to `wanted` bytes of what came with the head."""
    data: bytes = unreader.take_buffered()
    if len(data) > wanted:
        unreader.unread(data[wanted:])
        data = data[:wanted]
    return data


def _receive(body: Any, first: bytes, wanted: int) -> bytes:
    data = io.BytesIO()
    left = wanted - data.write(first)
    socket = body.reader.unreader.sock
    try:
        while left and (piece := socket.recv(min(READ_BYTES, left))):
            left -= data.write(piece)
    except Exception:
        # Where the next request begins is unknown.
        body.failed = True
        raise
    return data.getvalue()


def _discard(body: Any, most_bytes: int) -> bool:
    reader = body.reader
    if not isinstance(reader, LengthReader):
        while most_bytes > 0 and (data := body.read(DISCARD_BYTES)):
            most_bytes -= len(data)
        return most_bytes > 0
    unreader = reader.unreader
    reader.length -= len(_take_buffered(unreader, reader.length))
    while reader.length and most_bytes > 0:
        count = unreader.sock.recv_into(_discarded, min(DISCARD_BYTES, reader.length))
        if not count:
            break
        reader.length -= count
        most_bytes -= count
    return bool(reader.length == 0)
