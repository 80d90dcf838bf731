"""PDFs whose pages only say that another program shows their content."""

import re

from pypdf import PdfReader
from pypdf.generic import DictionaryObject

from jobs.documents.extract.objects import entry, items

XFA = "document_is_xfa_form"
PORTFOLIO = "document_is_portfolio"
ENCRYPTED = "document_encrypted"

# Adobe's page of an XFA form; programs that remove the form leave it.
PLEASE_WAIT = re.compile(
    r"\s*Please wait\.\.\.\s+If this message is not eventually replaced by the proper contents"
)


def placeholder_of(reader: PdfReader) -> str | None:
    """Return the code of the fault if the pages stand for content that is not on them.

    A form in XFA that has its fields on pages too is read by these.
    """
    catalog = reader.root_object
    if is_wrapper(catalog):
        return ENCRYPTED
    if entry(catalog, "/Collection") is not None and _has_files(catalog):
        return PORTFOLIO
    if entry(entry(catalog, "/AcroForm"), "/XFA") is not None:
        needs_rendering = bool(entry(catalog, "/NeedsRendering"))
        if needs_rendering or not any(_has_widget(page) for page in reader.pages):
            return XFA
    return None


def is_placeholder(text: str) -> bool:
    """Return whether a document's text is Adobe's page of an XFA form."""
    return PLEASE_WAIT.match(text) is not None


def is_wrapper(catalog: DictionaryObject) -> bool:
    """Return whether the document is the cover of an encrypted one (ISO 32000-2, 7.6.7)."""
    files = items(catalog.get("/AF"))
    return any(entry(file, "/AFRelationship") == "/EncryptedPayload" for file in files)


def _has_files(catalog: DictionaryObject) -> bool:
    tree = entry(entry(catalog, "/Names"), "/EmbeddedFiles")
    return bool(items(entry(tree, "/Names")) or items(entry(tree, "/Kids")))


def _has_widget(page: DictionaryObject) -> bool:
    return any(entry(one, "/Subtype") == "/Widget" for one in items(page.get("/Annots")))
