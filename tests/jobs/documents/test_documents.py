"""Reading documents: what is text, what is refused, and how long a hostile file may take."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import ExitStack

import pytest
from prometheus_client import REGISTRY

from config.api.errors import ApiError
from jobs.documents import process, reading
from jobs.documents.budgets import MIB, budget_of
from jobs.documents.errors import DOCUMENT_FAULTS, DocumentFault
from jobs.documents.form import clean_name
from tests.jobs.documents.conftest import ACCOUNT, Read, code_of
from tests.support import documents
from tests.support.waiting import slack


def sample(name: str, **labels: str) -> float:
    """Return a metric of this process."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_document_of_a_hundred_pages_is_read_completely_and_in_order(read: Read):
    started = time.monotonic()
    document = read(documents.pdf(100))
    assert document.pages == 100
    places = [document.text.index(f"This is page {number}.") for number in range(1, 101)]
    assert places == sorted(places)
    assert time.monotonic() - started < slack(30)


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
def test_the_error_of_a_document_names_its_fault(read: Read, data: bytes, code: str):
    assert code_of(read, data) == (422, code)


def test_a_text_of_nothing_but_white_space_is_empty(read: Read):
    assert code_of(read, b" \n\t", "a.txt") == (422, "document_empty")


def test_a_pdf_with_an_empty_password_is_read(read: Read):
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


def test_a_small_file_may_cost_little_and_a_large_one_more(settings):
    settings.JOB_FILE_CPU_SECONDS = 3.0
    settings.JOB_FILE_CPU_SECONDS_PER_MIB = 16.0
    settings.JOB_FILE_TIMEOUT_SECONDS = 20.0
    settings.JOB_FILE_PAGE_BYTES = 64
    settings.JOB_MAX_FILE_PAGES = 2000
    assert [budget_of(size).cpu_seconds for size in (0, 12_800, MIB // 2, MIB, 20 * MIB)] == [
        3,
        4,
        11,
        19,
        20,
    ]
    assert [budget_of(size).pages for size in (10, 6400, MIB)] == [1, 100, 2000]


def test_a_bomb_is_refused_for_its_memory(read: Read, settings):
    with pytest.raises(ApiError) as caught:
        read(documents.bomb())
    assert (caught.value.status, caught.value.code) == (422, "document_unreadable")
    assert "JOB_FILE_MEMORY_BYTES" in caught.value.message


def test_a_document_that_takes_too_long_is_ended_by_its_processor_time(read: Read, settings):
    settings.JOB_FILE_CPU_SECONDS = 1.0
    settings.JOB_FILE_CPU_SECONDS_PER_MIB = 0.0
    before = sample("headrace_document_readings_total", outcome="cpu")
    with pytest.raises(ApiError) as caught:
        read(documents.endless())
    assert (caught.value.status, caught.value.code) == (422, "document_unreadable")
    assert "more than 1 s of processor time" in caught.value.message
    assert "JOB_FILE_CPU_SECONDS" in caught.value.message
    assert sample("headrace_document_readings_total", outcome="cpu") == before + 1
    # Its reader is free again.
    settings.JOB_FILE_CPU_SECONDS = 20.0
    assert read(documents.pdf()).pages == 1


def test_more_pages_than_a_file_of_its_size_can_have_are_refused(read: Read, settings):
    settings.JOB_FILE_PAGE_BYTES = 10_000
    assert read(documents.pdf(1)).pages == 1
    assert code_of(read, documents.pdf(20)) == (422, "document_too_many_pages")


def test_a_busy_machine_is_not_the_documents_fault(read: Read, settings):
    settings.JOB_FILE_PATIENCE_SECONDS = -9.5
    settings.JOB_FILE_CPU_SECONDS = 10.0
    settings.JOB_FILE_CPU_SECONDS_PER_MIB = 0.0
    assert code_of(read, documents.endless()) == (503, "documents_busy")


@pytest.mark.parametrize(
    ("accounts", "setting"),
    [([ACCOUNT], "JOB_FILE_ACCOUNT_READERS"), ([uuid.uuid4(), uuid.uuid4()], "JOB_FILE_READERS")],
)
def test_a_request_that_waits_too_long_for_a_reader_gets_503(
    read: Read, settings, accounts: list[uuid.UUID], setting: str
):
    settings.JOB_FILE_WAIT_SECONDS = 0.1
    with ExitStack() as taken:
        for account in accounts:
            taken.enter_context(reading.READERS.slot(account, wait_seconds=0))
        with pytest.raises(ApiError) as caught:
            read(documents.pdf())
    assert (caught.value.status, caught.value.code) == (503, "documents_busy")
    assert "Retry-After" in caught.value.headers
    assert f"({setting})" in caught.value.message
    assert read(documents.pdf()).pages == 1


def test_a_reader_has_no_secret_no_open_file_and_may_write_none(tmp_path, monkeypatch, settings):
    program = tmp_path / "extract.py"
    source = process.EXTRACT.read_text().replace("__file__", repr(str(process.EXTRACT)))
    program.write_text(
        source.replace(
            "answer = read_pdf(raw, max_pages=max_pages, max_chars=max_chars)",
            "answer = {'env': dict(os.environ), 'files': sorted(os.listdir('/proc/self/fd')),"
            " 'limits': [__import__('resource').getrlimit(n) for n in (0, 9, 1, 4)],"
            " 'nice': os.nice(0),"
            " 'oom': open('/proc/self/oom_score_adj').read()}",
        )
    )
    monkeypatch.setattr(process, "EXTRACT", program)
    monkeypatch.setenv("SECRET", "x")
    budget = budget_of(100)
    with (tmp_path / "a.pdf").open("wb+") as file:
        os.set_inheritable(file.fileno(), True)
        answer = process.read_pdf(file.fileno(), budget).answer
    assert not {"SECRET", "SECRET_KEY"} & answer["env"].keys()
    assert answer["files"] == ["0", "1", "2", "3"]  # The last lists them.
    cpu, memory = budget.cpu_seconds, budget.memory_bytes
    assert answer["limits"] == [[cpu, cpu + 1], [memory, memory], [0, 0], [0, 0]]
    assert answer["nice"] == min(19, os.nice(0) + settings.JOB_FILE_NICE)
    assert answer["oom"].strip() == "1000"


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
