"""Write PDFs object by object, as no program would."""

from __future__ import annotations

import io
import zlib

Objects = dict[int, bytes]

FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
PAGE = (
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R"
    b" /Resources << /Font << /F1 5 0 R >> >> >>"
)
SHOW = b"BT /F1 12 Tf (x) Tj ET\n"


def stream(data: bytes, entries: bytes = b"", *, filters: bytes = b"/FlateDecode") -> bytes:
    """Return a stream object; the data is compressed unless other filters are named."""
    if filters == b"/FlateDecode":
        data = zlib.compress(data, 9)
    named = b"/Filter %b " % filters if filters else b""
    return b"<< %b/Length %d %b >>\nstream\n%b\nendstream" % (named, len(data), entries, data)


def page_of(content: bytes, more: Objects | None = None) -> bytes:
    """Return a PDF of a page whose content stream object is this, with further objects."""
    return write(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            3: PAGE,
            4: content,
            5: FONT,
            **(more or {}),
        }
    )


def write(objects: Objects, trailer: bytes = b"") -> bytes:
    """Return the file of some objects, of which the first is the catalogue."""
    out = io.BytesIO(b"%PDF-1.7\n")
    out.seek(0, io.SEEK_END)
    offsets = {}
    for number, body in objects.items():
        offsets[number] = out.tell()
        out.write(b"%d 0 obj\n%b\nendobj\n" % (number, body))
    start = out.tell()
    size = max(objects) + 1
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % size)
    for number in range(1, size):
        kind = b"n" if number in offsets else b"f"
        out.write(b"%010d 00000 %b \n" % (offsets.get(number, 0), kind))
    out.write(b"trailer << /Root 1 0 R /Size %d %b >>\n" % (size, trailer))
    out.write(b"startxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()
