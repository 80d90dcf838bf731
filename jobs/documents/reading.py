"""From an uploaded file to its text."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from uuid import UUID

from django.conf import settings

from jobs.documents import metrics, process
from jobs.documents.budgets import budget_of
from jobs.documents.errors import (
    DocumentFault,
    DocumentsBusy,
    DocumentTooCostly,
    DocumentTooLarge,
    DocumentTypeUnsupported,
)
from jobs.documents.received import ReceivedFile
from jobs.documents.slots import FairSlots, SlotsBusy
from scaling.connections import release_connections

# Readers find a PDF's mark also behind some bytes of rubbish (ISO 32000, annex H).
PDF_MARK = b"%PDF-"
PDF_MARK_WITHIN_BYTES = 1024
TEXT_TYPES = {"text/plain", "text/markdown", "text/x-markdown"}
TEXT_SUFFIXES = {".txt", ".text", ".md", ".markdown"}
MARKDOWN_SUFFIXES = {".md", ".markdown"}

READERS = FairSlots(
    size=lambda: int(settings.JOB_FILE_READERS),
    share=lambda: int(settings.JOB_FILE_ACCOUNT_READERS),
)
metrics.READERS.set_function(lambda: READERS.taken)
metrics.READERS_WAITING.set_function(lambda: READERS.waiting)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document's text; `suffix` is the type's own.

    `pages` and `pages_incomplete`, those of which something was not read, are None for plain text.
    """

    text: str
    pages: int | None = None
    pages_incomplete: int | None = None
    suffix: str


def read_document(file: ReceivedFile, *, account_id: UUID) -> Document:
    """Return the text of a PDF, a plain text or a Markdown file.

    The content decides between them; a name or type of another kind is refused. Releases its
    database connections while it waits. Raises DocumentFault, DocumentTypeUnsupported,
    DocumentTooLarge, DocumentTooCostly, and DocumentsBusy if no reader is free for the account in
    JOB_FILE_WAIT_SECONDS.
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
        answer = _read_pdf(file, account_id)
        return Document(
            text=_checked(answer["text"]),
            pages=answer["pages"],
            pages_incomplete=answer["pages_incomplete"],
            suffix=".pdf",
        )
    if suffix == ".pdf" or file.content_type == "application/pdf":
        raise DocumentFault("document_damaged")
    if suffix not in TEXT_SUFFIXES and file.content_type not in TEXT_TYPES:
        raise DocumentTypeUnsupported
    is_markdown = suffix in MARKDOWN_SUFFIXES or "markdown" in (file.content_type or "")
    file.seek(0)
    text = _decoded(file.read())
    return Document(text=_checked(text), suffix=".md" if is_markdown else ".txt")


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


def _read_pdf(file: ReceivedFile, account_id: UUID) -> dict[str, Any]:
    """Read a PDF in a process of its own, once its account has a reader to use."""
    try:
        with READERS.slot(account_id, wait_seconds=settings.JOB_FILE_WAIT_SECONDS):
            budget = budget_of(file.size or 0)
            file.flush()
            reading = process.read_pdf(file.fileno(), budget)
    except SlotsBusy as busy:
        whose = "account" if busy.by_share else "node"
        metrics.READERS_REFUSED.labels(whose).inc()
        raise DocumentsBusy(whose) from busy
    metrics.READ_CPU_SECONDS.observe(reading.cpu_seconds)
    if reading.over is not None:
        metrics.READINGS.labels(reading.over).inc()
        if reading.over == "clock":
            raise DocumentsBusy("clock")
        raise DocumentTooCostly(reading.over, budget)
    if (code := reading.answer.get("error")) is not None:
        metrics.READINGS.labels("refused").inc()
        raise DocumentFault(code, pages=budget.pages)
    metrics.READINGS.labels("incomplete" if reading.answer["pages_incomplete"] else "ok").inc()
    return reading.answer
