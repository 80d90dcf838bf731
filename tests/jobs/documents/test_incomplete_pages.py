"""Pages of which something is not read: the text and the count say so."""

from __future__ import annotations

import zlib

import pytest

from tests.jobs.documents.conftest import Read, code_of
from tests.support import pdf_objects as pdf

FULL_PAGE = b"q 612 0 0 792 0 0 cm /Im Do Q"
IN_A_FORM = b"q 6.12 0 0 7.92 0 0 cm /Fm Do Q"
SMALL = b"q 50 0 0 50 0 0 cm /Im Do Q"
INLINE = b"q 612 0 0 792 0 0 cm BI /W 1 /H 1 /BPC 8 /CS /G ID \0 EI Q"
OUTLINES = b"10 10 m 20 20 l 30 10 l f"
CUT = zlib.compress(pdf.shown("A text that is cut off") + b" " * 5000)[:-20]
DAMAGED = [
    pdf.stream(b"nonsense", b"/Filter /FlateDecode"),
    pdf.stream(CUT, b"/Filter /FlateDecode"),
    pdf.stream(b"~~~", b"/Filter /ASCII85Decode"),
    pdf.stream(b"x", b"/Filter /NoSuchFilter"),
]
SCALED = {5: pdf.stream(b"q 100 0 0 100 0 0 cm /Im Do Q", b"/Subtype /Form /BBox [0 0 9 9]")}


@pytest.mark.parametrize("content", [FULL_PAGE, INLINE, OUTLINES, IN_A_FORM], ids=range(4))
def test_a_picture_is_no_blank_page(read: Read, content: bytes):
    document = read(pdf.document([pdf.shown("First"), b"", content], objects=SCALED))
    mark = "[Page 3 is a picture or drawing; text in it could not be read.]"
    assert document.text == f"First\n\n\n\n{mark}"
    assert (document.pages, document.pages_incomplete) == (3, 1)


@pytest.mark.parametrize("content", DAMAGED, ids=range(4))
def test_a_damaged_page_is_no_blank_page(read: Read, content: bytes):
    document = read(pdf.document([pdf.shown("First"), content, pdf.shown("Third")]))
    assert "[Page 2 is damaged; not all of its text could be read.]" in document.text
    assert document.text.startswith("First\n")
    assert document.text.endswith("\n\nThird")
    assert (document.pages, document.pages_incomplete) == (3, 1)


def test_a_damaged_form_of_a_page_is_noted(read: Read):
    form = pdf.stream(b"nonsense", b"/Filter /FlateDecode /Subtype /Form /BBox [0 0 9 9]")
    form = form.replace(b"/Subtype", b"/Resources << /Font << >> >> /Subtype")
    document = read(pdf.document([pdf.shown("First") + b" /Fm Do"], objects={5: form}))
    assert document.pages_incomplete == 1
    assert "damaged" in document.text


@pytest.mark.parametrize("content", DAMAGED, ids=range(4))
def test_a_document_of_nothing_but_damaged_pages_is_damaged(read: Read, content: bytes):
    if content == DAMAGED[1]:
        content = content.replace(CUT, CUT[:4])
    assert code_of(read, pdf.document([content, content])) == (422, "document_damaged")


@pytest.mark.parametrize(
    ("content", "incomplete"),
    [
        # A scan with a stamp on it.
        (FULL_PAGE + pdf.shown("Page 7 of 9"), 1),
        # A letter with a logo.
        (SMALL + pdf.shown("Dear Sir"), 0),
        # A slide with a background.
        (FULL_PAGE + pdf.shown("Words of a slide " * 20), 0),
        (b"/None Do " + pdf.shown("A form that is not there"), 0),
    ],
    ids=range(4),
)
def test_a_picture_on_a_page_with_text_counts_by_its_size(
    read: Read, content: bytes, incomplete: int
):
    document = read(pdf.document([content]))
    assert document.pages_incomplete == incomplete
    assert ("picture" in document.text) == bool(incomplete)


def test_a_large_drawing_is_not_taken_apart(read: Read, settings):
    settings.JOB_FILE_CPU_SECONDS = 1.0
    settings.JOB_FILE_CPU_SECONDS_PER_MIB = 0.0
    map_of_a_town = pdf.packed(b"10 10 m 20 20 l S\n" * 1_000_000)
    document = read(pdf.document([pdf.shown("First"), map_of_a_town]))
    assert document.pages_incomplete == 1
    assert "[Page 2 is a picture or drawing" in document.text


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"", b"\r"], ids=["wrong", "missing", "longer"])
def test_a_wrong_checksum_loses_nothing(read: Read, tail: bytes):
    data = zlib.compress(pdf.shown("Complete"))[:-4] + tail
    document = read(pdf.document([pdf.stream(data, b"/Filter /FlateDecode")]))
    assert (document.text, document.pages_incomplete) == ("Complete", 0)
