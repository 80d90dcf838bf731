"""Characters are what the font shows, or unknown, and never others."""

from __future__ import annotations

import pytest

from tests.jobs.documents.conftest import Read, code_of
from tests.support import pdf_objects as pdf

UNKNOWN = "\ufffd"


def composite(encoding: bytes, *, extra: bytes = b"", descendant: bytes = b"") -> bytes:
    return (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding %b %b /DescendantFonts [<< /Type"
        b" /Font /Subtype /CIDFontType2 /BaseFont /X /FontDescriptor << /FontName /X /Flags 4 >>"
        b" %b >>] >>" % (encoding, extra, descendant)
    )


def simple(differences: bytes) -> bytes:
    return (
        b"<< /Type /Font /Subtype /Type1 /BaseFont /X /FontDescriptor << /FontName /X /Flags 4 >>"
        b" /Encoding << /Differences [65 %b] >> >>" % differences
    )


def to_unicode(*pairs: tuple[str, str]) -> dict[int, bytes]:
    lines = "\n".join(f"<{code}> <{text}>" for code, text in pairs)
    return {6: pdf.stream(f"{len(pairs)} beginbfchar\n{lines}\nendbfchar".encode())}


@pytest.mark.parametrize(
    ("cmap", "text", "codes"),
    [
        ("KSCms-UHC-H", "서울 똠", "cp949"),
        ("KSCms-UHC-HW-V", "서울", "cp949"),
        ("KSC-EUC-H", "서울", "euc_kr"),
        ("KSCpc-EUC-H", "서울", "euc_kr"),
        ("UniKS-UCS2-H", "서울", "utf-16-be"),
        ("UniKS-UTF8-H", "서울", "utf-8"),
        ("UniKS-UTF32-H", "서울", "utf-32-be"),
        ("GB-EUC-H", "北京", "gb2312"),
        ("GBpc-EUC-H", "北京", "gb2312"),
        ("GBK-EUC-H", "北京朱镕基", "gbk"),
        ("GBKp-EUC-H", "北京朱镕基", "gbk"),
        ("GBK2K-V", "北京", "gb18030"),
        ("B5pc-H", "臺北", "big5"),
        ("ETen-B5-H", "臺北", "big5"),
        ("HKscs-B5-H", "香港嘅", "big5hkscs"),
        ("90ms-RKSJ-H", "東京ﾄｳ", "cp932"),
        ("90msp-RKSJ-H", "東京", "cp932"),
        ("90pv-RKSJ-H", "東京", "shift_jis"),
        ("83pv-RKSJ-H", "東京", "shift_jis"),
        ("Add-RKSJ-V", "東京", "shift_jis"),
        ("EUC-H", "東京", "euc_jp"),
        ("UniJIS-UCS2-HW-H", "東京", "utf-16-be"),
    ],
)
def test_a_font_with_a_cmap_of_its_script_is_read(read: Read, cmap: str, text: str, codes: str):
    font = composite(f"/{cmap}".encode())
    document = read(pdf.document([pdf.shown(text.encode(codes))], font=font))
    assert (document.text, document.pages_incomplete) == (text, 0)


@pytest.mark.parametrize(
    ("cmap", "text", "codes"),
    [
        ("H", "東京", "euc_jp"),
        ("V", "東京", "euc_jp"),
        ("GB-H", "北京", "gb2312"),
        ("KSC-H", "서울", "euc_kr"),
    ],
)
def test_a_cmap_of_seven_bits_is_read(read: Read, cmap: str, text: str, codes: str):
    data = bytes(byte & 0x7F for byte in text.encode(codes))
    font = composite(f"/{cmap}".encode())
    assert read(pdf.document([pdf.shown(data)], font=font)).text == text


def test_a_copy_of_a_cmap_inside_the_file_is_known_by_its_name(read: Read):
    objects = {6: pdf.stream(b"begincmap", b"/Type /CMap /CMapName /90ms-RKSJ-H")}
    data = pdf.document(
        [pdf.shown("東京".encode("cp932"))], font=composite(b"6 0 R"), objects=objects
    )
    assert read(data).text == "東京"


GLYPHS = b"\0\x26\0\x48"
UNNAMED = [
    composite(b"/Identity-H"),
    composite(b"/Identity-H", descendant=b"/CIDToGIDMap /Identity"),
    composite(
        b"/Identity-H",
        descendant=b"/CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >>",
    ),
    composite(b"/CNS-EUC-H"),
    composite(b"/78-RKSJ-H"),
    composite(b"/NoSuch-H"),
    composite(b"/UniNoSuch-H"),
]


@pytest.mark.parametrize("font", UNNAMED, ids=range(7))
def test_a_font_without_names_of_its_characters_shows_no_others(read: Read, font: bytes):
    data = pdf.document([pdf.shown(GLYPHS)], font=font)
    assert code_of(read, data) == (422, "document_font_unsupported")
    mixed = b"BT /F2 12 Tf 72 720 Td (Title) Tj ET " + pdf.shown(GLYPHS)
    data = pdf.document([mixed], font=font, objects={7: pdf.HELVETICA})
    data = data.replace(b"/F1 3 0 R", b"/F1 3 0 R /F2 7 0 R")
    document = read(data)
    assert document.text.startswith(f"Title\n{UNKNOWN}\n[Page 1 has characters")
    assert document.pages_incomplete == 1


def test_codes_without_an_entry_in_the_fonts_table_are_unknown(read: Read):
    font = composite(b"/Identity-H", extra=b"/ToUnicode 6 0 R")
    objects = to_unicode(("0026", "0041"))
    document = read(pdf.document([pdf.shown(GLYPHS)], font=font, objects=objects))
    assert document.text.startswith(f"A{UNKNOWN}\n[Page 1 has characters")
    complete = to_unicode(("0026", "0041"), ("0048", "0062"))
    document = read(pdf.document([pdf.shown(GLYPHS)], font=font, objects=complete))
    assert (document.text, document.pages_incomplete) == ("Ab", 0)


def test_codes_that_are_characters_are_read(read: Read):
    for font in (
        composite(b"/Identity-H", extra=b"/ToUnicode /Identity-H"),
        composite(b"/Identity-H", descendant=b"/CIDToGIDMap 6 0 R"),
    ):
        data = pdf.document([pdf.shown(b"\0A\0b")], font=font, objects={6: pdf.stream(b"\0" * 99)})
        assert read(data).text == "Ab"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (b"/x /y", "xy"),
        (b"/f_i /a.sc", "fia"),
        (b"/uni00410042 /u1F600", "AB\N{GRINNING FACE}"),
        (b"/slash /x", "/x"),
    ],
)
def test_names_of_glyphs_are_read_by_adobes_rules(read: Read, names: bytes, expected: str):
    assert read(pdf.document([pdf.shown("AB")], font=simple(names))).text == expected


def test_names_that_mean_nothing_are_no_text(read: Read):
    data = pdf.document([pdf.shown("AB")], font=simple(b"/g12 /g13"))
    assert code_of(read, data) == (422, "document_font_unsupported")
    document = read(pdf.document([pdf.shown("ABC")], font=simple(b"/g12 /g13")))
    assert document.text.startswith(f"{UNKNOWN}C\n[Page 1 has characters")
