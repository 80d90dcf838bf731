"""Errors of documents; every message has advice."""

from __future__ import annotations

from django.conf import settings

from config.api.errors import ApiError, InvalidRequest
from jobs.documents.budgets import Budget

# Faults that extract/ and reading.py find; all 422.
DOCUMENT_FAULTS = {
    "document_empty": "The file is empty; send one with text.",
    "document_encrypted": "The PDF is encrypted; save it without a password and send that.",
    "document_damaged": "The PDF is damaged; save or print it as a new PDF and send that.",
    "document_has_no_text": (
        "The PDF has pictures of pages and no text; run text recognition (OCR) on it first."
    ),
    "document_font_unsupported": (
        "The PDF's fonts do not name their characters; print it as a new PDF, or run text"
        " recognition (OCR) on it first."
    ),
    "document_is_xfa_form": (
        "The PDF is an XFA form, of which only Adobe's programs show the content; print it there as"
        " a new PDF and send that."
    ),
    "document_is_portfolio": (
        "The PDF is the cover of a portfolio of files; send these files themselves."
    ),
    "document_too_many_pages": (
        "The PDF has more than {pages} pages, as many as one of its size may have"
        " (JOB_MAX_FILE_PAGES, JOB_FILE_PAGE_BYTES); send it in parts."
    ),
    "document_text_too_long": (
        "The document has more than {chars} characters of text (JOB_MAX_TEXT_CHARS); send it in"
        " parts."
    ),
    "document_unreadable": (
        "The PDF holds more than is read of one; print it as a new PDF, or send plain text."
    ),
}


class DocumentFault(ApiError):
    """The document itself is at fault; `code` is one of DOCUMENT_FAULTS."""

    def __init__(self, code: str, *, pages: int = 0) -> None:
        message = DOCUMENT_FAULTS.get(code) or DOCUMENT_FAULTS["document_unreadable"]
        super().__init__(
            422,
            message.format(pages=pages, chars=settings.JOB_MAX_TEXT_CHARS),
            param="file",
            code=code if code in DOCUMENT_FAULTS else "document_unreadable",
        )


class DocumentTooCostly(ApiError):
    """Reading the PDF took more than its budget; `limit` is cpu or memory."""

    MESSAGES = {
        "cpu": (
            "Reading the PDF takes more than {cpu} s of processor time, as much as one of its size"
            " may take (JOB_FILE_CPU_SECONDS, JOB_FILE_CPU_SECONDS_PER_MIB,"
            " JOB_FILE_TIMEOUT_SECONDS)"
        ),
        "memory": (
            "Reading the PDF takes more than {memory} bytes of memory (JOB_FILE_MEMORY_BYTES)"
        ),
    }

    def __init__(self, limit: str, budget: Budget) -> None:
        reason = self.MESSAGES[limit].format(
            cpu=budget.cpu_seconds,
            memory=budget.memory_bytes,
        )
        super().__init__(
            422,
            f"{reason}; send it in parts, or as plain text.",
            param="file",
            code="document_unreadable",
        )


class DocumentTypeUnsupported(ApiError):
    """The file's type is not supported."""

    def __init__(self) -> None:
        super().__init__(
            415,
            "Send a PDF, or plain text or Markdown in UTF-8.",
            param="file",
            code="document_type_unsupported",
        )


class DocumentTooLarge(ApiError):
    """The file, or the form around it, is too large."""

    def __init__(self) -> None:
        super().__init__(
            413,
            f"A file may have {settings.JOB_MAX_FILE_BYTES} bytes; send it in parts.",
            param="file",
            code="document_too_large",
        )


class AccountUploadsExceeded(ApiError):
    """The account's uploads to this node are as many, or as large, as they may be."""

    def __init__(self, setting: str) -> None:
        super().__init__(
            429,
            f"Your account sends as much to this node as it may at once, {_most(setting)}; try"
            " again when an upload has ended.",
            code="uploads_exceeded",
            retry_after_seconds=2,
        )


class UploadsBusy(ApiError):
    """The uploads to this node are as many, or as large, as they may be."""

    def __init__(self, setting: str) -> None:
        super().__init__(
            503,
            f"This node accepts no more uploads at once than {_most(setting)}; try again shortly.",
            code="uploads_busy",
            retry_after_seconds=2,
        )


class StorageFull(ApiError):
    """There is no room on the disk of the temporary files, or of the originals."""

    def __init__(self) -> None:
        super().__init__(
            507,
            "There is no space for the file now; try again later.",
            code="storage_full",
            retry_after_seconds=60,
        )


class DocumentsBusy(ApiError):
    """The node could not read a PDF in time; `limit` is a key of MESSAGES."""

    MESSAGES = {
        "account": (
            "Your account reads {share} PDFs at a time on this node (JOB_FILE_ACCOUNT_READERS), and"
            " none ended in {wait:g} s (JOB_FILE_WAIT_SECONDS)"
        ),
        "node": (
            "This node reads {size} PDFs at a time (JOB_FILE_READERS), and none ended in {wait:g} s"
            " (JOB_FILE_WAIT_SECONDS)"
        ),
        "clock": (
            "This node is too busy to read the PDF: it took {patience:g} s more by the clock than"
            " it may take of the processor (JOB_FILE_PATIENCE_SECONDS)"
        ),
    }

    def __init__(self, limit: str) -> None:
        reason = self.MESSAGES[limit].format(
            share=settings.JOB_FILE_ACCOUNT_READERS,
            size=settings.JOB_FILE_READERS,
            wait=settings.JOB_FILE_WAIT_SECONDS,
            patience=settings.JOB_FILE_PATIENCE_SECONDS,
        )
        super().__init__(
            503, f"{reason}; try again shortly.", code="documents_busy", retry_after_seconds=5
        )


class NotOneFile(InvalidRequest):
    """The form has no file, more than one, or one under another name."""

    def __init__(self) -> None:
        super().__init__(
            "Send one file with a name, as the field file (with curl: -F file=@report.pdf).",
            param="file",
        )


class InvalidForm(ApiError):
    """The body is no complete multipart form."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message, code="invalid_form")


def _most(setting: str) -> str:
    unit = "bytes" if setting.endswith("BYTES") else "uploads"
    return f"{getattr(settings, setting)} {unit} ({setting})"
