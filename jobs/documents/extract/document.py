"""From the bytes of a PDF to the text of its pages, or the code of its fault."""

from typing import Any

from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

from jobs.documents.extract import fonts, losses
from jobs.documents.extract.kinds import XFA, is_placeholder, placeholder_of
from jobs.documents.extract.opening import Encrypted, opened
from jobs.documents.extract.pages import PageText, read_page

# The fault of a document without any text, by what was seen of its pages; the first that fits.
EMPTY_FAULTS = {
    losses.DAMAGED: "document_damaged",
    losses.UNKNOWN_CHARACTERS: "document_font_unsupported",
}


def read_pdf(raw: bytes, *, max_pages: int, max_chars: int) -> dict[str, Any]:
    """Return the text and the numbers of pages, or the code of the fault.

    Changes pypdf in this process, once.
    """
    losses.watch()
    fonts.install()
    try:
        return _read(raw, max_pages, max_chars)
    # DependencyError is an encryption that this machine has no package for.
    except (Encrypted, FileNotDecryptedError, DependencyError, NotImplementedError):
        return {"error": "document_encrypted"}
    except MemoryError:
        return {"over": "memory"}
    except LimitReachedError:
        return {"error": "document_unreadable"}
    # pypdf reads arbitrary bytes, and raises errors of any kind.
    except Exception:
        return {"error": "document_damaged"}


def _read(raw: bytes, max_pages: int, max_chars: int) -> dict[str, Any]:
    reader = opened(raw)
    if len(reader.pages) > max_pages:
        return {"error": "document_too_many_pages"}
    if (fault := placeholder_of(reader)) is not None:
        return {"error": fault}
    pages: list[PageText] = []
    length = 0
    for number, page in enumerate(reader.pages, 1):
        pages.append(read_page(page, number))
        length += len(pages[-1].text)
        if length > max_chars:
            return {"error": "document_text_too_long"}
    if not pages:
        return {"error": "document_damaged"}
    if not any(page.has_text for page in pages):
        seen = {page.loss for page in pages}
        for loss, code in EMPTY_FAULTS.items():
            if loss in seen:
                return {"error": code}
        return {"error": "document_has_no_text"}
    text = "\n\n".join(page.text for page in pages)
    if len(pages) == 1 and is_placeholder(text):
        return {"error": XFA}
    return {
        "text": text,
        "pages": len(pages),
        "pages_incomplete": sum(page.loss is not None for page in pages),
    }
