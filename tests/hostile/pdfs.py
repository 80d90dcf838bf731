"""PDFs that are small and cost much, or lead a reader astray, by the name of what each tries."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable

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


# --- Streams that unpack into much ---------------------------------------------------------------
def white_space() -> bytes:
    """200 MB of spaces."""
    return page_of(stream(b" " * 200_000_000))


def operators() -> bytes:
    """Millions of text operators in 160 kB."""
    return page_of(stream(b"BT /F1 12 Tf\n" + b"(x) Tj 1 0 0 1 5 5 Tm\n" * 3_000_000 + b"ET"))


def small_operators() -> bytes:
    """As many operators as 12.9 kB hold: 20 s of a core without a budget by size."""
    return page_of(stream(b"BT /F1 12 Tf\n" + b"(x) Tj 1 0 0 1 5 5 Tm\n" * 230_000 + b"ET"))


def flate_chain() -> bytes:
    """Flate upon Flate: a few hundred bytes are 500 MB."""
    data = zlib.compress(zlib.compress(b" " * 500_000_000, 9), 9)
    return page_of(stream(data, filters=b"[/FlateDecode /FlateDecode]"))


def filters() -> bytes:
    """A thousand filters upon each other."""
    return page_of(stream(SHOW, filters=b"[%b]" % (b"/ASCIIHexDecode " * 1000)))


def ascii_85() -> bytes:
    """`z` is four zero bytes, in a packed stream of 20 million."""
    packed = zlib.compress(b"z" * 20_000_000 + b"~>", 9)
    return page_of(stream(packed, filters=b"[/FlateDecode /ASCII85Decode]"))


def lzw() -> bytes:
    """LZW whose codes grow to long runs of a space."""
    codes, bits = [256, 32], 9
    value, length = 0, 0
    out = bytearray()
    following = 258
    codes += list(range(258, 4094))
    for code in codes * 40:
        value, length = value << bits | code, length + bits
        while length >= 8:
            length -= 8
            out.append(value >> length & 255)
        value &= (1 << length) - 1
        if code == 256:
            bits, following = 9, 258
            continue
        following += 1
        bits = min(12, max(9, following.bit_length()))
    return page_of(stream(bytes(out), filters=b"/LZWDecode"))


def run_lengths() -> bytes:
    """Runs of 128 spaces, packed."""
    packed = zlib.compress(b"\x81 " * 2_000_000 + b"\x80", 9)
    return page_of(stream(packed, filters=b"[/FlateDecode /RunLengthDecode]"))


def predictor() -> bytes:
    """A predictor with rows of a byte each."""
    entries = b"/DecodeParms << /Predictor 15 /Columns 1 >>"
    return page_of(stream(b"\x02 " * 20_000_000, entries))


# --- Content that is costly to read --------------------------------------------------------------
def forms(depth: int, width: int, *, loop: bool = False) -> bytes:
    """Forms that draw forms, `width` each."""
    more: Objects = {}
    for level in range(depth):
        last = level == depth - 1
        names = b" ".join(b"/X%d Do" % number for number in range(width))
        to = 10 if loop and last else 11 + level
        inner = b" ".join(b"/X%d %d 0 R" % (number, to) for number in range(width))
        content = SHOW if last and not loop else names
        more[10 + level] = stream(
            content,
            b"/Type /XObject /Subtype /Form /BBox [0 0 1 1] /Resources"
            b" << /Font << /F1 5 0 R >> /XObject << %b >> >>" % inner,
        )
    page = PAGE.replace(b"/Font", b"/XObject << /X0 10 0 R >> /Font")
    return page_of(stream(b"/X0 Do"), {3: page, **more})


def form_tree() -> bytes:
    """Ten forms in each of ten levels: ten thousand million texts."""
    return forms(10, 10)


def form_loop() -> bytes:
    """A form that draws itself, twice."""
    return forms(3, 2, loop=True)


def nested_arrays() -> bytes:
    """A hundred thousand arrays in each other, in the content."""
    return page_of(stream(b"[" * 100_000 + b"]" * 100_000 + b" TJ"))


def nested_objects() -> bytes:
    """A hundred thousand arrays in each other, in an object."""
    return page_of(stream(SHOW), {6: b"[" * 100_000 + b"]" * 100_000, 5: b"6 0 R"})


def long_string() -> bytes:
    """A string of escapes that does not end."""
    return page_of(stream(b"BT /F1 12 Tf (" + b"\\(" * 20_000_000))


def inline_image() -> bytes:
    """An image in the content that has no end, a hundred times begun."""
    return page_of(stream((b"BI /W 1 /H 1 ID " + b"EI" * 50_000) * 100))


def saved_states() -> bytes:
    """A million graphics states that are saved and not restored."""
    return page_of(stream(b"q 1 0 0 1 1 1 cm\n" * 1_000_000 + SHOW))


def fonts() -> bytes:
    """Ten thousand changes among fonts that each have a map of their own."""
    cmap = b"1 begincmap 100 beginbfrange <0000> <ffff> <0041>\n" + b"<0000> <00ff> <0041>\n" * 9999
    more: Objects = {6: stream(cmap + b"endbfrange endcmap")}
    names = []
    for number in range(200):
        more[10 + number] = (
            b"<< /Type /Font /Subtype /Type0 /BaseFont /F /Encoding /Identity-H"
            b" /ToUnicode 6 0 R /DescendantFonts [5 0 R] >>"
        )
        names.append(b"/F%d %d 0 R" % (number, 10 + number))
    page = PAGE.replace(b"/F1 5 0 R", b" ".join(names))
    content = b"BT " + b" ".join(b"/F%d 12 Tf (ab) Tj" % (n % 200) for n in range(10_000)) + b" ET"
    return page_of(stream(content), {3: page, **more})


def cmap_ranges() -> bytes:
    """A font's map of 65,536 codes, again and again."""
    cmap = b"begincmap\n" + b"1 beginbfrange\n<0000> <ffff> <0000>\nendbfrange\n" * 20_000
    font = (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /F /Encoding /Identity-H"
        b" /ToUnicode 6 0 R /DescendantFonts [7 0 R] >>"
    )
    more = {5: font, 6: stream(cmap + b"endcmap"), 7: FONT}
    return page_of(stream(b"BT /F1 12 Tf <00410042> Tj ET"), more)


def widths() -> bytes:
    """A font with a range of two thousand million widths."""
    font = (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /F /Encoding /Identity-H"
        b" /DescendantFonts [6 0 R] >>"
    )
    inner = b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /F /DW 1000 /W [0 2000000000 500] >>"
    return page_of(stream(b"BT /F1 12 Tf <00410042> Tj ET"), {5: font, 6: inner})


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


def image_bomb() -> bytes:
    """A JPEG and a JBIG2 of 65,535 by 65,535 pixels, that nobody needs for the text."""
    image = (
        b"/Type /XObject /Subtype /Image /Width 65535 /Height 65535 /BitsPerComponent 8"
        b" /ColorSpace /DeviceRGB"
    )
    more = {
        6: stream(b"\xff\xd8\xff\xe0" * 100, image, filters=b"/DCTDecode"),
        7: stream(b"\x97JB2" * 100, image, filters=b"/JBIG2Decode"),
        3: PAGE.replace(b"/Font", b"/XObject << /A 6 0 R /B 7 0 R >> /Font"),
    }
    return page_of(stream(SHOW + b"/A Do /B Do"), more)


def noise() -> bytes:
    """Bytes without any sense after a PDF's mark."""
    return b"%PDF-1.4\n" + base64.b85encode(zlib.compress(bytes(range(256)) * 4000)) * 200


BOMBS: dict[str, Callable[[], bytes]] = {
    make.__name__: make
    for make in (
        white_space,
        operators,
        small_operators,
        flate_chain,
        filters,
        ascii_85,
        lzw,
        run_lengths,
        predictor,
        form_tree,
        form_loop,
        nested_arrays,
        nested_objects,
        long_string,
        inline_image,
        saved_states,
        fonts,
        cmap_ranges,
        widths,
        page_loop,
        page_fan,
        page_repeats,
        page_count,
        deep_pages,
        reference_loop,
        length_loop,
        long_length,
        xref_loop,
        xref_chain,
        xref_size,
        no_xref,
        marks,
        xref_stream,
        object_stream,
        outline_loop,
        encrypted_rounds,
        encrypted_strange,
        image_bomb,
        noise,
    )
}
# Those of them that take most of the processor or of memory.
COSTLY = (
    white_space,
    operators,
    small_operators,
    ascii_85,
    predictor,
    form_tree,
    saved_states,
    xref_stream,
)
