"""Opening a PDF that programs on its way have changed."""

import re
from io import BytesIO

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

# Viewers find the mark behind other bytes too (ISO 32000-1, annex H.3.4.1).
MARK = b"%PDF-"
# pypdf searches the file for objects when there is no table of them at 0.
SEARCH_OBJECTS = b"\nstartxref\n0\n%%EOF\n"
START_OF_TABLE = re.compile(rb"startxref\s+(\d{1,12})")
TABLE_OBJECT = re.compile(rb"\d+\s+\d+\s+obj\b")
TAIL_BYTES = 2048
TABLE_OBJECT_BYTES = 512


class Encrypted(Exception):
    """The PDF opens with a password."""


def opened(raw: bytes) -> PdfReader:
    """Return a reader that knows its pages. Raises Encrypted, and errors of any kind."""
    raw = without_prefix(raw)
    try:
        return _open(raw)
    except (
        Encrypted,
        FileNotDecryptedError,
        DependencyError,
        NotImplementedError,
        MemoryError,
        LimitReachedError,
    ):
        raise
    # Its table of objects is wrong: a wrong offset may point to another object.
    except Exception:
        return _open(raw + SEARCH_OBJECTS)


def without_prefix(raw: bytes) -> bytes:
    """Return the bytes from which the file's offsets count.

    Bytes in front of the mark were mostly added later (a mail's header, a proxy's), and then
    offsets count from the mark; some programs count them in.
    """
    start = raw.find(MARK)
    if start <= 0:
        return raw
    body = raw[start:]
    found = START_OF_TABLE.findall(raw[-TAIL_BYTES:])
    offset = int(found[-1]) if found else 0
    if _is_table(raw, offset) and not _is_table(body, offset):
        return raw
    return body


def _is_table(data: bytes, offset: int) -> bool:
    table = data[offset : offset + TABLE_OBJECT_BYTES].lstrip()
    if table.startswith(b"xref"):
        return True
    return TABLE_OBJECT.match(table) is not None and b"/XRef" in table


def _open(raw: bytes) -> PdfReader:
    reader = PdfReader(BytesIO(raw))
    # Many PDFs are encrypted with the empty password, and open without one.
    if reader.is_encrypted and not reader.decrypt(""):
        raise Encrypted
    if not reader.pages:
        raise ValueError("no pages")
    # The first one shows whether the table of objects is right.
    reader.pages[0].get_object()
    return reader
