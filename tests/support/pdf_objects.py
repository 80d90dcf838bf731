"""PDFs from their objects, for documents that no library writes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

HELVETICA = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
FONT, PICTURE, FREE = 3, 4, 5


def stream(data: bytes, extra: bytes = b"") -> bytes:
    """Return a stream object."""
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(data), extra, data)


def packed(data: bytes, extra: bytes = b"") -> bytes:
    """Return a compressed stream object."""
    return stream(zlib.compress(data), b"/Filter /FlateDecode " + extra)


def shown(text: str | bytes) -> bytes:
    """Return the content of a page with one line of text; bytes are codes of the font."""
    codes = text.encode("cp1252") if isinstance(text, str) else text
    return b"BT /F1 12 Tf 72 700 Td <%b> Tj ET" % codes.hex().encode()


def form(content: bytes) -> bytes:
    """Return a form that paints this content."""
    extra = b"/Subtype /Form /BBox [0 0 200 20] /Resources << /Font << /F1 3 0 R >> >>"
    return stream(content, extra)


def document(
    contents: Sequence[bytes],
    *,
    font: bytes = HELVETICA,
    page: bytes = b"",
    catalog: bytes = b"",
    objects: Mapping[int, bytes] | None = None,
    trailer: bytes = b"",
) -> bytes:
    """Return a PDF with a page for each content; those that begin with `<<` are objects.

    Font 3 is /F1, the picture 4 is /Im, and 5 to 99 are free for `objects`.
    """
    numbers = range(100, 100 + 2 * len(contents), 2)
    kids = b" ".join(b"%d 0 R" % number for number in numbers)
    bodies = {
        1: b"<< /Type /Catalog /Pages 2 0 R %b >>" % catalog,
        2: b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, len(contents)),
        FONT: font,
        PICTURE: stream(
            b"\0" * 300,
            b"/Subtype /Image /Width 10 /Height 10 /ColorSpace /DeviceRGB /BitsPerComponent 8",
        ),
        **(objects or {}),
    }
    for number, content in zip(numbers, contents, strict=True):
        bodies[number] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> /XObject << /Im 4 0 R /Fm 5 0 R >> >> %b >>"
            % (number + 1, page)
        )
        bodies[number + 1] = content if content.startswith(b"<<") else stream(content)
    return _file(bodies, trailer)


def _file(bodies: Mapping[int, bytes], trailer: bytes) -> bytes:
    out = bytearray(b"%PDF-1.7\n")
    size = max(bodies) + 1
    table = [b"0000000000 65535 f \n"] * size
    for number, body in sorted(bodies.items()):
        table[number] = b"%010d 00000 n \n" % len(out)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n%b" % (size, b"".join(table))
    out += b"trailer\n<< /Size %d /Root 1 0 R %b >>\nstartxref\n%d\n%%%%EOF\n" % (
        size,
        trailer,
        start,
    )
    return bytes(out)
