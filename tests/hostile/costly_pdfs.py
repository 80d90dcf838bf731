"""PDFs that unpack into much, or whose content is costly to read."""

from __future__ import annotations

import zlib

from tests.hostile.pdf_files import FONT, PAGE, SHOW, Objects, page_of, stream


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
