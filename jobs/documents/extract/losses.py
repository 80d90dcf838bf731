"""What of a page was not read, of which pypdf says nothing to its caller.

It goes on with what it has when data cannot be unpacked or a form cannot be read, and only logs it.
"""

import logging
import zlib

from pypdf import filters
from pypdf._configuration import get_configuration

DAMAGED = "damaged"
UNKNOWN_CHARACTERS = "unknown characters"
PICTURES = "pictures"

# Messages that pypdf logs when it leaves content out.
LEFT_OUT = (
    "Impossible to decode XFormObject",
    "Exceeded %(limit)d form XObject invocations",
    "Expected StreamObject",
)
CHUNK_BYTES = 1 << 20

_seen: set[str] = set()


def forget() -> None:
    """Begin with the next page."""
    _seen.clear()


def is_damaged() -> bool:
    """Return whether something of the page could not be read."""
    return DAMAGED in _seen


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if not str(record.msg).startswith(LEFT_OUT):
            return
        values = record.args if isinstance(record.args, dict) else {}
        # A name that stands for nothing, which viewers pass over too.
        if not isinstance(values.get("exception"), KeyError):
            _seen.add(DAMAGED)


def _is_complete(data: bytes) -> bool:
    """Return whether packed data reaches its end; its checksum may be missing or wrong."""
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    rest = data[2:]
    try:
        while rest and not unpack.eof:
            unpack.decompress(rest, CHUNK_BYTES)
            rest = unpack.unconsumed_tail
    except zlib.error:
        return False
    return unpack.eof


def watch() -> None:
    """Note from now on what pypdf leaves out."""
    original = filters.decompress

    def decompress(data: bytes) -> bytes:
        unpack = zlib.decompressobj()
        try:
            unpacked = unpack.decompress(data, get_configuration().zlib_maximum_output_length)
            if unpack.eof:
                return unpacked
            del unpacked
        except zlib.error:
            pass
        if not _is_complete(data):
            _seen.add(DAMAGED)
        return original(data)

    filters.decompress = decompress
    logger = logging.getLogger("pypdf")
    logger.addHandler(_Warnings())
    logger.propagate = False
