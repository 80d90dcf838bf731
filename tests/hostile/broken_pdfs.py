"""PDFs whose structures have no end, make no sense, or are encrypted."""

from __future__ import annotations

import base64
import io
import struct
import zlib

from tests.hostile.pdf_files import FONT, PAGE, SHOW, Objects, page_of, stream, write


# --- Structures without an end -------------------------------------------------------------------
def page_loop() -> bytes:
    """A tree of pages that contains itself."""
    return page_of(stream(SHOW), {2: b"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 2 >>"})


def page_fan() -> bytes:
    """Ten levels of ten times the same children: ten thousand million pages in a few objects."""
    objects: Objects = {1: b"<< /Type /Catalog /Pages 10 0 R >>", 3: PAGE, 4: stream(SHOW), 5: FONT}
    for level in range(10):
        to = 3 if level == 9 else 11 + level
        kids = b"%d 0 R " % to * 10
        objects[10 + level] = b"<< /Type /Pages /Kids [%b] /Count %d >>" % (
            kids,
            10 ** (10 - level),
        )
    return write(objects)


def page_repeats() -> bytes:
    """The same page of many operators, two thousand times."""
    content = b"BT /F1 12 Tf\n" + b"(x) Tj 1 0 0 1 5 5 Tm\n" * 10_000 + b"ET"
    return page_of(
        stream(content), {2: b"<< /Type /Pages /Kids [%b] /Count 2000 >>" % (b"3 0 R " * 2000)}
    )


def page_count() -> bytes:
    """A count of pages that is a lie."""
    return page_of(stream(SHOW), {2: b"<< /Type /Pages /Kids [3 0 R] /Count 2000000000 >>"})


def deep_pages() -> bytes:
    """Twenty thousand levels of pages."""
    objects: Objects = {1: b"<< /Type /Catalog /Pages 10 0 R >>", 3: PAGE, 4: stream(SHOW), 5: FONT}
    for level in range(20_000):
        to = 3 if level == 19_999 else 11 + level
        objects[10 + level] = b"<< /Type /Pages /Kids [%d 0 R] /Count 1 >>" % to
    return write(objects)


def reference_loop() -> bytes:
    """Contents that are a reference to a reference to themselves."""
    return page_of(b"6 0 R", {6: b"4 0 R"})


def length_loop() -> bytes:
    """A stream whose length is that stream."""
    return page_of(b"<< /Length 4 0 R >>\nstream\n%b\nendstream" % SHOW)


def long_length() -> bytes:
    """A stream that says it has two thousand million bytes."""
    return page_of(b"<< /Length 2000000000 >>\nstream\n%b\nendstream" % SHOW)


def xref_loop() -> bytes:
    """Cross-references whose earlier ones are they themselves."""
    data = page_of(stream(SHOW))
    start = data.rindex(b"xref", 0, data.rindex(b"startxref"))
    return data.replace(b"/Size", b"/Prev %d /Size" % start)


def xref_chain() -> bytes:
    """A hundred thousand sections of cross-references, each before the other."""
    out = io.BytesIO(page_of(stream(SHOW)))
    start = out.getvalue().rindex(b"xref", 0, out.getvalue().rindex(b"startxref"))
    out.seek(0, io.SEEK_END)
    for _ in range(100_000):
        here = out.tell()
        out.write(b"xref\n0 0\ntrailer << /Size 6 /Root 1 0 R /Prev %d >>\n" % start)
        start = here
    out.write(b"startxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()


def xref_size() -> bytes:
    """Cross-references for a thousand million objects."""
    return page_of(stream(SHOW)).replace(b"xref\n0 6", b"xref\n0 999999999")


def no_xref() -> bytes:
    """Half a million objects and no cross-references, so that all must be looked for."""
    return (
        b"%PDF-1.4\n" + b"".join(b"%d 0 obj\n1\nendobj\n" % n for n in range(1, 500_000)) + b"%%EOF"
    )


def marks() -> bytes:
    """A megabyte of the words by which a file is mended."""
    return b"%PDF-1.4\n" + b"startxref\n" * 50_000 + b"trailer\n" * 50_000 + b"0 obj" * 50_000


def xref_stream() -> bytes:
    """A stream of cross-references of two million entries."""
    rows = struct.pack(">BHB", 1, 9, 0) * 2_000_000
    entries = b"/Type /XRef /W [1 2 1] /Index [0 2000000] /Size 2000000 /Root 1 0 R"
    return b"%PDF-1.5\n1 0 obj\n" + stream(rows, entries) + b"\nendobj\nstartxref\n9\n%%EOF\n"


def object_stream() -> bytes:
    """An object stream that contains itself and says it has a thousand million objects."""
    inner = stream(b"6 0 7 5 " + b"1 " * 100_000, b"/Type /ObjStm /N 999999999 /First 10")
    rows = b"".join(
        struct.pack(">BHB", kind, place, 0)
        for kind, place in ((0, 0), (2, 6), (2, 6), (2, 6), (2, 6), (2, 6), (1, 9))
    )
    out = io.BytesIO(b"%PDF-1.5\n")
    out.seek(0, io.SEEK_END)
    out.write(b"6 0 obj\n" + inner + b"\nendobj\n")
    start = out.tell()
    entries = b"/Type /XRef /W [1 2 1] /Size 7 /Root 1 0 R"
    out.write(b"8 0 obj\n" + stream(rows, entries) + b"\nendobj\nstartxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()


def outline_loop() -> bytes:
    """An outline whose next entry is itself."""
    return page_of(
        stream(SHOW),
        {
            1: b"<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R >>",
            6: b"<< /First 7 0 R /Last 7 0 R /Count 1 >>",
            7: b"<< /Title (x) /Parent 6 0 R /Next 7 0 R /First 7 0 R >>",
        },
    )


# --- Encryption ----------------------------------------------------------------------------------
def encrypted(revision: int, *, length: int = 128) -> bytes:
    """Encryption whose key takes many rounds, and does not fit."""
    key = b"<%b>" % (b"41" * 48)
    trailer = (
        b"/ID [<41> <41>] /Encrypt << /Filter /Standard /V 5 /R %d /Length %d /P -4 /O %b /U %b"
        b" /OE <%b> /UE <%b> /Perms <%b> /CF << /StdCF << /CFM /AESV3 /Length 32 >> >>"
        b" /StmF /StdCF /StrF /StdCF >>"
        % (revision, length, key, key, b"41" * 32, b"41" * 32, b"41" * 16)
    )
    objects: Objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        3: PAGE,
        4: stream(SHOW),
        5: FONT,
    }
    return write(objects, trailer)


def encrypted_rounds() -> bytes:
    """The slowest key derivation that there is."""
    return encrypted(6)


def encrypted_strange() -> bytes:
    """A revision that does not exist, with a key of a million bits."""
    return encrypted(99, length=1_000_000)


def noise() -> bytes:
    """Bytes without any sense after a PDF's mark."""
    return b"%PDF-1.4\n" + base64.b85encode(zlib.compress(bytes(range(256)) * 4000)) * 200
