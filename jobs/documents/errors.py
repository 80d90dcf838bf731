"""What can be wrong with a document; every message says what to do."""

from __future__ import annotations

from django.conf import settings

from config.errors import ApiError

# What extract.py finds, and reading.py; all 422.
DOCUMENT_FAULTS = {
    "document_empty": "The file is empty; send one with text.",
    "document_encrypted": "The PDF is encrypted; save it without a password and send that.",
    "document_damaged": "The PDF is damaged; save or print it as a new PDF and send that.",
    "document_has_no_text": (
        "The PDF has pictures of pages and no text; run text recognition (OCR) on it first."
    ),
    "document_too_many_pages": "The PDF has more than {pages} pages; send it in parts.",
    "document_text_too_long": (
        "The document has more than {chars} characters of text; send it in parts."
    ),
    "document_unreadable": (
        "The PDF's text could not be read with the time and memory there is for it; send it in "
        "parts, or as plain text."
    ),
}


class DocumentFault(ApiError):
    """The document itself is at fault; `code` is one of DOCUMENT_FAULTS."""

    def __init__(self, code: str) -> None:
        message = DOCUMENT_FAULTS.get(code) or DOCUMENT_FAULTS["document_unreadable"]
        super().__init__(
            422,
            message.format(pages=settings.JOB_MAX_FILE_PAGES, chars=settings.JOB_MAX_TEXT_CHARS),
            param="file",
            code=code if code in DOCUMENT_FAULTS else "document_unreadable",
        )


class DocumentTypeUnsupported(ApiError):
    """The file is none of the types that are read."""

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


class DocumentsBusy(ApiError):
    """The node reads as many documents as it can, and not as fast as it should."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "Too many documents are being read; try again shortly.",
            code="documents_busy",
            retry_after_seconds=5,
        )


class InvalidForm(ApiError):
    """The body is no whole multipart form."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message, code="invalid_form")
