"""Filled forms, and PDFs whose pages stand for content that is elsewhere."""

from __future__ import annotations

import pytest

from tests.jobs.documents.conftest import Read, code_of
from tests.support import pdf_objects as pdf

LOOK = {6: pdf.form(b"BT /F1 12 Tf 2 5 Td (Larsen) Tj ET")}
XDP = pdf.stream(b'<xdp:xdp xmlns:xdp="http://ns.adobe.com/xdp/"><who>Larsen</who></xdp:xdp>')
WAIT = "Please wait... If this message is not eventually replaced by the proper contents of the"


def annotated(annotation: bytes, *, others: dict[int, bytes] | None = None) -> bytes:
    return pdf.document(
        [pdf.shown("Name:")],
        page=b"/Annots [20 0 R]",
        catalog=b"/AcroForm << /Fields [20 0 R] >>",
        objects={20: b"<< /Type /Annot %b >>" % annotation, **LOOK, **(others or {})},
    )


def widget(entries: bytes, **options: dict[int, bytes]) -> bytes:
    return annotated(b"/Subtype /Widget /Rect [150 695 350 715] " + entries, **options)


PARENT = {"others": {21: b"<< /FT /Tx /T (form) /V (Larsen) /Kids [20 0 R] >>"}}
RADIO = {"others": {21: b"<< /FT /Btn /Ff 32768 /T (size) /V /1 /Opt [(small) (large)] >>"}}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (widget(b"/FT /Tx /T (who) /V (Larsen) /AP << /N 6 0 R >>"), "who: Larsen"),
        (widget(b"/FT /Tx /T (who) /V (Larsen)"), "who: Larsen"),
        (widget(b"/FT /Tx /T (who[0]) /V <FEFF00C600F8>"), "who: Æø"),
        (widget(b"/FT /Tx /T (who) /TU (Family name) /V (Larsen)"), "Family name: Larsen"),
        (widget(b"/FT /Tx /T (who) /AP << /N 6 0 R >>"), "who: Larsen"),
        (widget(b"/Parent 21 0 R", **PARENT), "form: Larsen"),
        (
            widget(b"/FT /Tx /T (who) /V 21 0 R", others={21: pdf.packed(b"Larsen")}),
            "who: Larsen",
        ),
        (
            widget(b"/FT /Ch /T (land) /V (no) /Opt [[(no) (Norway)] [(se) (Sweden)]]"),
            "land: Norway",
        ),
        (widget(b"/FT /Ch /T (land) /V [(no) (se)] /Opt [(no) (se)]"), "land: no, se"),
        (widget(b"/FT /Btn /T (married) /V /Yes /AS /Yes"), "married: Yes"),
        (widget(b"/Parent 21 0 R /AS /1 /AP << /N << /1 6 0 R >> >>", **RADIO), "size: large"),
        (widget(b"/FT /Sig /T (signature) /AP << /N 6 0 R >>"), "signature: Larsen"),
        (annotated(b"/Subtype /FreeText /Contents (Larsen)"), "Larsen"),
        (annotated(b"/Subtype /FreeText /AP << /N 6 0 R >>"), "Larsen"),
        (annotated(b"/Subtype /Stamp /AP << /N 6 0 R >>"), "Larsen"),
    ],
    ids=range(15),
)
def test_the_values_of_a_form_follow_the_text_of_their_page(read: Read, data: bytes, expected: str):
    document = read(data)
    assert document.text == f"Name:\n{expected}"
    assert document.pages_incomplete == 0


@pytest.mark.parametrize(
    "data",
    [
        widget(b"/FT /Tx /T (who)"),
        widget(b"/FT /Tx /T (who) /V (Larsen) /F 2"),
        widget(b"/FT /Tx /T (who) /V (Larsen) /F 32"),
        widget(b"/FT /Tx /T (secret) /V (Larsen) /Ff 8192 /AP << /N 6 0 R >>"),
        widget(b"/FT /Btn /T (send) /Ff 65536 /AP << /N 6 0 R >>"),
        widget(b"/FT /Btn /T (married) /V /Yes /AS /Off"),
        widget(b"/Parent 21 0 R /AP << /N << /0 6 0 R >> >>", **RADIO),
        widget(b"/Parent 20 0 R"),
        annotated(b"/Subtype /Text /Contents (A note)"),
        annotated(b"/Subtype /Link"),
    ],
    ids=range(10),
)
def test_what_a_viewer_does_not_show_is_left_out(read: Read, data: bytes):
    assert read(data).text == "Name:"


def test_a_form_without_other_text_has_text(read: Read):
    data = pdf.document(
        [b""],
        page=b"/Annots [20 0 R]",
        objects={20: b"<< /Subtype /Widget /FT /Tx /T (who) /V (Larsen) >>"},
    )
    assert read(data).text == "who: Larsen"


def xfa(catalog: bytes, *, text: str = "Please open this in another viewer.") -> bytes:
    return pdf.document([pdf.shown(text)], catalog=catalog, objects={6: XDP})


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (
            xfa(b"/AcroForm << /Fields [] /XFA 6 0 R >> /NeedsRendering true"),
            "document_is_xfa_form",
        ),
        (xfa(b"/AcroForm << /Fields [] /XFA [(datasets) 6 0 R] >>"), "document_is_xfa_form"),
        (xfa(b"", text=WAIT), "document_is_xfa_form"),
        (
            xfa(b"/Collection << /View /D >> /Names << /EmbeddedFiles << /Names [(a) 7 0 R] >> >>"),
            "document_is_portfolio",
        ),
        (
            xfa(b"/Collection << /View /H >> /AF [<< /AFRelationship /EncryptedPayload >>]"),
            "document_encrypted",
        ),
    ],
    ids=range(5),
)
def test_a_page_that_stands_for_other_content_is_refused_by_its_name(
    read: Read, data: bytes, code: str
):
    assert code_of(read, data) == (422, code)


def test_a_form_in_xfa_with_fields_on_its_pages_is_read_by_them(read: Read):
    data = pdf.document(
        [pdf.shown("Name:")],
        page=b"/Annots [20 0 R]",
        catalog=b"/AcroForm << /Fields [20 0 R] /XFA 6 0 R >>",
        objects={20: b"<< /Subtype /Widget /FT /Tx /T (who[0]) /V (Larsen) >>", 6: XDP},
    )
    assert read(data).text == "Name:\nwho: Larsen"


def test_attachments_alone_make_no_portfolio(read: Read):
    catalog = b"/Names << /EmbeddedFiles << /Names [(a) 7 0 R] >> >>"
    assert read(pdf.document([pdf.shown("Text")], catalog=catalog)).text == "Text"
