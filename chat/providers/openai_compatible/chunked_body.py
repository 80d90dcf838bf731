"""Decode a body in chunks (RFC 9112, section 7.1), as much at once as has come.

A provider sends each token in a chunk of its own, and many may come together. Python's http.client
reads them one by one, at several calls each.
"""

from __future__ import annotations

import re
from http.client import HTTPException

# With its extensions; trailers are lines too. All bytes together are WireBudget's.
MAX_LINE_BYTES = 8_192
# No length has more digits; int() alone would also take a sign, spaces and underscores.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_BREAKS = (b"\r\n", b"\n")


class MalformedChunk(HTTPException):
    """A body is not framed as its header says."""


class ChunkedBody:
    """The state of one body; `has_ended` after its last chunk and trailers."""

    __slots__ = (
        "_bytes_left",
        "_in_trailers",
        "_is_after_data",
        "_rest",
        "has_ended",
        "has_excess",
    )

    def __init__(self) -> None:
        self.has_ended = False
        # Whether bytes came after the end, which belong to no answer.
        self.has_excess = False
        self._rest = b""
        self._bytes_left = 0
        self._is_after_data = self._in_trailers = False

    def decode(self, data: bytes) -> bytes:
        """Return the part of the body in these bytes; raises MalformedChunk."""
        data = self._rest + data if self._rest else data
        parts: list[bytes] = []
        at = 0
        while not self.has_ended:
            if self._bytes_left:
                part = data[at : at + self._bytes_left]
                if not part:
                    break
                parts.append(part)
                at += len(part)
                self._bytes_left -= len(part)
                self._is_after_data = not self._bytes_left
                continue
            end = data.find(b"\n", at) + 1
            if (end or len(data)) - at > MAX_LINE_BYTES:
                raise MalformedChunk
            if not end:
                break
            self._read_line(data[at:end])
            at = end
        self._rest = data[at:]
        self.has_excess = self.has_ended and bool(self._rest)
        return b"".join(parts)

    def _read_line(self, line: bytes) -> None:
        if self._is_after_data:
            if line not in _BREAKS:
                raise MalformedChunk
            self._is_after_data = False
        elif self._in_trailers:
            self.has_ended = line in _BREAKS
        elif size := _SIZE.fullmatch(line):
            self._bytes_left = int(size[1], 16)
            self._in_trailers = not self._bytes_left
        else:
            raise MalformedChunk
