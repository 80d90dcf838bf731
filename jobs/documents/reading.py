"""From an uploaded file to its text."""

from __future__ import annotations

import subprocess
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass
from pathlib import Path, PurePath

import orjson
from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from gevent.lock import BoundedSemaphore

from jobs.documents.errors import (
    DocumentFault,
    DocumentsBusy,
    DocumentTooLarge,
    DocumentTypeUnsupported,
)
from scaling.database import release_connections

EXTRACT = Path(__file__).with_name("extract.py")
# A PDF's reader takes a core and up to a gigabyte of memory.
EXTRACTIONS_AT_A_TIME = 2
WAIT_SECONDS = 20.0
# How much longer than its processor time a PDF may take by the clock, on a busy machine.
PATIENCE_SECONDS = 30.0
# Readers find a PDF's mark also behind some bytes of rubbish (ISO 32000, annex H).
PDF_MARK = b"%PDF-"
PDF_MARK_WITHIN_BYTES = 1024
TEXT_TYPES = {"text/plain", "text/markdown", "text/x-markdown"}
TEXT_SUFFIXES = {".txt", ".text", ".md", ".markdown"}
MARKDOWN_SUFFIXES = {".md", ".markdown"}

_extractions = BoundedSemaphore(EXTRACTIONS_AT_A_TIME)


@dataclass(frozen=True, kw_only=True)
class Document:
    """What was read; `pages` is None for text, and `suffix` is the type's own."""

    text: str
    pages: int | None
    suffix: str


def read_document(file: TemporaryUploadedFile) -> Document:
    """Return the text of a PDF, a plain text or a Markdown file.

    The content decides between them; a name or type of another kind is refused. Gives the database
    connections back while it waits. Raises DocumentFault, DocumentTypeUnsupported,
    DocumentTooLarge, and DocumentsBusy if there is no place in WAIT_SECONDS, or too little of the
    processor's time.
    """
    if not file.size:
        raise DocumentFault("document_empty")
    if file.size > settings.JOB_MAX_FILE_BYTES:
        raise DocumentTooLarge
    file.seek(0)
    head = file.read(PDF_MARK_WITHIN_BYTES)
    suffix = PurePath(file.name or "").suffix.lower()
    if PDF_MARK in head:
        release_connections()
        text, pages = _read_pdf(file.temporary_file_path())
        return Document(text=_checked(text), pages=pages, suffix=".pdf")
    if suffix == ".pdf" or file.content_type == "application/pdf":
        raise DocumentFault("document_damaged")
    if suffix not in TEXT_SUFFIXES and file.content_type not in TEXT_TYPES:
        raise DocumentTypeUnsupported
    is_markdown = suffix in MARKDOWN_SUFFIXES or "markdown" in (file.content_type or "")
    file.seek(0)
    text = _decoded(file.read())
    return Document(text=_checked(text), pages=None, suffix=".md" if is_markdown else ".txt")


def _decoded(raw: bytes) -> str:
    is_utf16 = raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentTypeUnsupported from error
    # Other files than texts hold NULs, and some of them are valid UTF-8.
    if "\0" in text:
        raise DocumentTypeUnsupported
    return text


def _checked(text: str) -> str:
    # PostgreSQL stores no NUL.
    text = text.replace("\0", "")
    if not text.strip():
        raise DocumentFault("document_empty")
    if len(text) > settings.JOB_MAX_TEXT_CHARS:
        raise DocumentFault("document_text_too_long")
    return text


def _read_pdf(path: str) -> tuple[str, int]:
    if not _extractions.acquire(timeout=WAIT_SECONDS):
        raise DocumentsBusy
    try:
        done = subprocess.run(  # noqa: S603 - our own program; the path is the server's
            [
                sys.executable,
                "-I",
                str(EXTRACT),
                path,
                str(settings.JOB_MAX_FILE_PAGES),
                str(settings.JOB_MAX_TEXT_CHARS),
                str(settings.JOB_FILE_TIMEOUT_SECONDS),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # pypdf tells there what it mends in a file.
            stderr=subprocess.DEVNULL,
            timeout=settings.JOB_FILE_TIMEOUT_SECONDS + PATIENCE_SECONDS,
            # A reader of strangers' files gets none of our secrets.
            env={},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DocumentsBusy from error
    finally:
        _extractions.release()
    # Killed, for taking too much of the processor's time, or of memory.
    if done.returncode != 0:
        raise DocumentFault("document_unreadable")
    answer = orjson.loads(done.stdout)
    if "error" in answer:
        raise DocumentFault(answer["error"])
    return answer["text"], answer["pages"]
