"""Compress bodies with Zstandard; docs/adr/0009 says why."""

from __future__ import annotations

from enum import IntEnum

import zstandard

# The first level whose sizes are good; three costs half as much time again and saves nothing below
# 64 kB.
LEVEL = 1


class Compression(IntEnum):
    """A body's encoding; the numbers are in stores, so they never change their meaning."""

    NONE = 0
    ZSTD = 1


# Neither object may be used by two threads at once, and a new one costs more than its work on a
# small body. A list's pop and append cannot be interrupted.
_compressors: list[zstandard.ZstdCompressor] = []
_decompressors: list[zstandard.ZstdDecompressor] = []


def compress(body: bytes) -> bytes:
    """Return one Zstandard frame that states its content's size."""
    try:
        compressor = _compressors.pop()
    except IndexError:
        compressor = zstandard.ZstdCompressor(level=LEVEL)
    try:
        return compressor.compress(body)
    finally:
        _compressors.append(compressor)


def decompress(frame: bytes | memoryview, *, size_bytes: int) -> bytes:
    """Return a frame's content, which must have this size; raises ValueError for anything else.

    No frame makes it take more memory than that.
    """
    try:
        # The library believes the frame before it believes its caller's limit.
        if zstandard.frame_content_size(frame) != size_bytes:
            raise ValueError("the frame has another size")
        try:
            decompressor = _decompressors.pop()
        except IndexError:
            decompressor = zstandard.ZstdDecompressor()
        try:
            body = decompressor.decompress(frame, allow_extra_data=False)
        finally:
            _decompressors.append(decompressor)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a frame of Zstandard: {error}") from error
    if len(body) != size_bytes:
        raise ValueError("the content has another size")
    return body
