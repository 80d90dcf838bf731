"""PDFs that programs on their way have changed."""

from __future__ import annotations

import pytest

from tests.jobs.documents.conftest import Read, code_of
from tests.support import documents
from tests.support import pdf_objects as pdf

PAGES = [pdf.shown(f"Page number {number} of the report.") for number in range(30)]
DATA = pdf.document(PAGES)


@pytest.mark.parametrize("length", [1, 2, 9, 503, 504, 1018])
def test_bytes_before_the_header_change_nothing(read: Read, length: int):
    assert read(b"y" * (length - 1) + b"\n" + DATA).text == read(DATA).text


def test_the_table_of_objects_may_point_past_bytes_before_the_header(read: Read):
    # Those by which the offset meets the beginning of an object, which was taken for the table.
    table = int(DATA.split(b"startxref\n")[1].split()[0])
    for number in (1, 3, 100, 120):
        length = table - DATA.index(b"\n%d 0 obj" % number) - 1
        if length + 5 <= 1024:
            assert read(b"y" * (length - 1) + b"\n" + DATA).pages == 30
    # From the start of the file, as some programs count.
    shifted = DATA.replace(b"startxref\n%d" % table, b"startxref\n%d" % (table + 10))
    for line in DATA[table:].splitlines():
        if line.endswith(b" n "):
            shifted = shifted.replace(line, b"%010d 00000 n " % (int(line[:10]) + 10), 1)
    assert read(b"y" * 9 + b"\n" + shifted).pages == 30


def test_a_mark_beyond_the_first_kibibyte_is_none(read: Read):
    assert code_of(read, b"y" * 1024 + DATA) == (422, "document_damaged")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # A transfer as text.
        (b"\n", b"\r\n"),
        (b"startxref", b"startxxxx"),
        (b"%%EOF\n", b""),
        (b"%%EOF\n", b"%%EOF\n" + b"\0" * 3000),
        (b" 00000 n \n", b" 00001 n \n"),
    ],
    ids=range(5),
)
def test_a_wrong_table_of_objects_is_made_up_from_them(read: Read, old: bytes, new: bytes):
    assert read(DATA.replace(old, new)).text == read(DATA).text


def test_an_offset_that_meets_another_object_is_no_table(read: Read):
    table = int(DATA.split(b"startxref\n")[1].split()[0])
    data = DATA.replace(b"startxref\n%d" % table, b"startxref\n%d" % DATA.index(b"2 0 obj"))
    assert read(data).pages == 30


def test_a_file_that_breaks_off_is_damaged(read: Read):
    assert code_of(read, documents.pdf(3)[:700]) == (422, "document_damaged")
