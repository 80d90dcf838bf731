"""PDFs for tests, good and bad."""

from __future__ import annotations

import io
import zlib

from pypdf import PdfReader, PdfWriter
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas


def pdf(pages: int = 1, *, line: str = "The headrace carries water to the turbine.") -> bytes:
    """Return a PDF with a numbered page's text on each page."""
    out = io.BytesIO()
    canvas = Canvas(out)
    for number in range(1, pages + 1):
        canvas.drawString(50, 800, f"This is page {number}.")
        for row in range(40):
            canvas.drawString(50, 780 - row * 16, line)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def encrypted(data: bytes, *, password: str, algorithm: str = "RC4-128") -> bytes:
    """Return a PDF that opens with a password; with "" it opens without one."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt(user_password=password, owner_password="owner", algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def picture_only() -> bytes:
    """Return a PDF as a scanner makes it."""
    from PIL import Image

    out = io.BytesIO()
    canvas = Canvas(out)
    picture = io.BytesIO()
    Image.new("RGB", (60, 60), "grey").save(picture, "PNG")
    picture.seek(0)
    canvas.drawImage(ImageReader(picture), 0, 0)
    canvas.showPage()
    canvas.save()
    return out.getvalue()


def with_content(content: bytes) -> bytes:
    """Return a PDF of one page whose content stream is this, compressed."""
    packed = zlib.compress(content, 9)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream" % (len(packed), packed),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, io.SEEK_END)
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%b\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for offset in offsets:
        out.write(b"%010d 00000 n \n" % offset)
    out.write(b"trailer << /Root 1 0 R /Size %d >>\n" % (len(objects) + 1))
    out.write(b"startxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()


def bomb() -> bytes:
    """Return a small PDF that unpacks to 200 MB of white space."""
    return with_content(b" " * 200_000_000)


def endless() -> bytes:
    """Return a PDF of a megabyte whose text takes minutes to read."""
    return with_content(b"BT /F1 12 Tf\n" + b"(x) Tj 1 0 0 1 5 5 Tm\n" * 3_000_000 + b"ET")
