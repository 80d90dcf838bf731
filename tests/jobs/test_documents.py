"""Reading documents: what is text, what is refused, and how long a hostile file may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from django.core.files.uploadedfile import TemporaryUploadedFile

from config.errors import ApiError
from jobs.documents import reading
from jobs.documents.errors import DOCUMENT_FAULTS, DocumentFault
from jobs.documents.form import clean_name
from jobs.documents.reading import Document, read_document
from tests.jobs import documents

Read = Callable[..., Document]


@pytest.fixture
def read() -> Iterator[Read]:
    """Return a reader of bytes as if they had been uploaded."""
    files = []

    def read(data: bytes, name: str = "a.pdf", content_type: str = "") -> Document:
        file = TemporaryUploadedFile(name, content_type, len(data), None)
        files.append(file)
        file.write(data)
        file.flush()
        return read_document(file)

    yield read
    for file in files:
        file.close()


def code_of(read: Read, *arguments: object) -> tuple[int, str | None]:
    with pytest.raises(ApiError) as caught:
        read(*arguments)
    assert caught.value.param in ("file", None)
    return caught.value.status, caught.value.code


def test_a_document_of_a_hundred_pages_is_read_whole_and_in_order(read: Read):
    started = time.monotonic()
    document = read(documents.pdf(100))
    assert document.pages == 100
    places = [document.text.index(f"This is page {number}.") for number in range(1, 101)]
    assert places == sorted(places)
    assert time.monotonic() - started < 30


def test_a_pdf_is_known_by_its_content(read: Read):
    assert read(documents.pdf(), "notes.txt", "text/plain").pages == 1
    assert read(b"rubbish\n" + documents.pdf(), "a").pages == 1


@pytest.mark.parametrize(
    ("data", "name", "content_type", "expected"),
    [
        ("Grüße".encode(), "a.txt", "", ("Grüße", ".txt")),
        ("Grüße".encode("utf-8-sig"), "a.TXT", "application/octet-stream", ("Grüße", ".txt")),
        ("Grüße".encode("utf-16"), "a", "text/plain", ("Grüße", ".txt")),
        (b"# Title", "a.md", "application/octet-stream", ("# Title", ".md")),
        (b"# Title", "a", "text/markdown", ("# Title", ".md")),
    ],
)
def test_text_and_markdown_are_read(
    read: Read, data: bytes, name: str, content_type: str, expected: tuple[str, str]
):
    document = read(data, name, content_type)
    assert (document.text, document.suffix) == expected
    assert document.pages is None


@pytest.mark.parametrize(
    ("data", "name", "content_type"),
    [
        (b"a\0b", "a.txt", "text/plain"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a.png", "image/png"),
        (b"<p>Hello</p>", "a.html", "text/html"),
        ("Grüße".encode("latin-1"), "a.txt", "text/plain"),
        (b"\xff\xfea", "a.txt", "text/plain"),
        (b"PK\x03\x04\0\0", "a.docx", ""),
        (b"words", "a.exe", "application/octet-stream"),
    ],
)
def test_other_types_are_refused(read: Read, data: bytes, name: str, content_type: str):
    assert code_of(read, data, name, content_type) == (415, "document_type_unsupported")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "document_empty"),
        (b"no PDF at all", "document_damaged"),
        (b"%PDF-1.7\nnothing more", "document_damaged"),
        (documents.pdf(3)[:700], "document_damaged"),
        (documents.encrypted(documents.pdf(), password="secret"), "document_encrypted"),
        (
            documents.encrypted(documents.pdf(), password="secret", algorithm="AES-256"),
            "document_encrypted",
        ),
        (documents.picture_only(), "document_has_no_text"),
        (documents.with_content(b""), "document_has_no_text"),
    ],
    ids=range(8),
)
def test_a_document_at_fault_is_told_what_is_wrong(read: Read, data: bytes, code: str):
    assert code_of(read, data) == (422, code)


def test_a_text_of_nothing_but_white_space_is_empty(read: Read):
    assert code_of(read, b" \n\t", "a.txt") == (422, "document_empty")


def test_a_pdf_that_opens_for_everybody_is_read(read: Read):
    document = read(documents.encrypted(documents.pdf(2), password=""))
    assert "This is page 2." in document.text


def test_what_the_database_cannot_store_is_left_out(read: Read):
    # WinAnsi has no NUL; a font's own table may map to one, and to half of a pair.
    document = read(documents.with_content(b"BT /F1 12 Tf (one\\000two) Tj ET"))
    assert "\0" not in document.text
    assert document.text.encode()


def test_limits_hold(read: Read, settings):
    settings.JOB_MAX_FILE_PAGES = 3
    assert read(documents.pdf(3)).pages == 3
    assert code_of(read, documents.pdf(4)) == (422, "document_too_many_pages")
    settings.JOB_MAX_TEXT_CHARS = 100
    assert code_of(read, documents.pdf(1)) == (422, "document_text_too_long")
    assert code_of(read, b"x" * 101, "a.txt") == (422, "document_text_too_long")
    settings.JOB_MAX_FILE_BYTES = 1024
    assert code_of(read, b"x" * 1025, "a.txt") == (413, "document_too_large")


def test_a_bomb_is_refused_within_its_time(read: Read, settings):
    settings.JOB_FILE_TIMEOUT_SECONDS = 4.0
    started = time.monotonic()
    status, code = code_of(read, documents.bomb())
    assert status == 422
    assert code in ("document_unreadable", "document_has_no_text", "document_damaged")
    assert time.monotonic() - started < 30


def test_a_document_that_takes_too_long_is_given_up(read: Read, settings):
    settings.JOB_FILE_TIMEOUT_SECONDS = 2.0
    data = documents.endless()
    started = time.monotonic()
    assert code_of(read, data) == (422, "document_unreadable")
    assert 1.5 < time.monotonic() - started < 30
    # Its place is free again.
    settings.JOB_FILE_TIMEOUT_SECONDS = 20.0
    assert read(documents.pdf()).pages == 1


def test_a_busy_machine_is_not_the_documents_fault(read: Read, settings, monkeypatch):
    settings.JOB_FILE_TIMEOUT_SECONDS = 10.0
    monkeypatch.setattr(reading, "PATIENCE_SECONDS", -9.5)
    assert code_of(read, documents.endless()) == (503, "documents_busy")


def test_who_waits_too_long_for_a_place_is_told_to_come_back(read: Read, monkeypatch):
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.1)
    taken = [reading._extractions.acquire() for _ in range(reading.EXTRACTIONS_AT_A_TIME)]
    try:
        with pytest.raises(ApiError) as caught:
            read(documents.pdf())
    finally:
        for _ in taken:
            reading._extractions.release()
    assert (caught.value.status, caught.value.code) == (503, "documents_busy")
    assert "Retry-After" in caught.value.headers


def test_every_fault_has_words():
    for code in DOCUMENT_FAULTS:
        assert "{" not in DocumentFault(code).message
        assert DocumentFault(code).code == code
    assert DocumentFault("never heard of").code == "document_unreadable"


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\secret\\plan.md", "plan.md"),
        ("two\nlines\0.pdf", "twolines.pdf"),
        ("\u202efdp.exe", "fdp.exe"),
        ("Bu\u0308cher.pdf", "Bücher.pdf"),
        ("..", "document.pdf"),
        ("\t \n", "document.pdf"),
        ("", "document.pdf"),
        ("x" * 500 + ".pdf", "x" * 196 + ".pdf"),
    ],
)
def test_names_are_made_safe_to_show(name: str, cleaned: str):
    assert clean_name(name, suffix=".pdf") == cleaned
