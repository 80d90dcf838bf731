"""What a page paints besides text."""

from dataclasses import dataclass
from typing import Any

from pypdf import PageObject
from pypdf.generic import ContentStream, DictionaryObject

from jobs.documents.extract.objects import entry, resolved

# Painting operators of paths and shadings (ISO 32000-1, tables 60 and 77).
PAINTING = {b"S", b"s", b"f", b"F", b"f*", b"B", b"B*", b"b", b"b*", b"sh"}
SHOWING = {b"Tj", b"TJ", b"'", b'"'}
IDENTITY = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
MAX_FORM_DEPTH = 8
MAX_FORMS = 1000
# Longer content is a drawing; reading it takes seconds.
MAX_CONTENT_BYTES = 200_000

Matrix = tuple[float, float, float, float, float, float]


@dataclass(kw_only=True)
class Painted:
    """Whether anything is painted or shown as text, and the pictures' share of the page."""

    page_area: float
    is_anything: bool = False
    shows_text: bool = False
    picture_share: float = 0.0
    forms: int = 0

    def add(self, content: ContentStream, resources: Any, matrix: Matrix, depth: int = 0) -> None:
        """Add what a content paints, and its forms."""
        if len(content.get_data()) > MAX_CONTENT_BYTES:
            self.is_anything = True
            return
        objects = _objects(resources)
        stack: list[Matrix] = []
        for operands, operator in content.operations:
            if operator == b"q":
                stack.append(matrix)
            elif operator == b"Q" and stack:
                matrix = stack.pop()
            elif operator == b"cm":
                matrix = _product(operands, matrix)
            elif operator == b"INLINE IMAGE":
                self._add_picture(matrix)
            elif operator in PAINTING:
                self.is_anything = True
            elif operator in SHOWING:
                self.shows_text = self.shows_text or _shows(operands)
            elif operator == b"Do" and operands and operands[0] in objects:
                self._add_object(objects[operands[0]], resources, matrix, depth)

    def _add_object(self, thing: Any, resources: Any, matrix: Matrix, depth: int) -> None:
        kind = entry(thing, "/Subtype")
        if kind == "/Image":
            self._add_picture(matrix)
        elif kind == "/Form":
            self.forms += 1
            if depth < MAX_FORM_DEPTH and self.forms <= MAX_FORMS:
                moved = _product(entry(thing, "/Matrix") or IDENTITY, matrix)
                content = ContentStream(thing, None, "bytes")
                self.add(content, entry(thing, "/Resources") or resources, moved, depth + 1)

    def _add_picture(self, matrix: Matrix) -> None:
        self.is_anything = True
        # A picture is a unit square.
        self.picture_share += abs(matrix[0] * matrix[3] - matrix[1] * matrix[2]) / self.page_area


def painted_on(page: PageObject) -> Painted:
    """Return what a page's content and its forms paint."""
    area = abs(float(page.mediabox.width) * float(page.mediabox.height))
    painted = Painted(page_area=area or 1.0)
    if (content := page.get_contents()) is not None:
        painted.add(content, page.get("/Resources"), IDENTITY)
    return painted


def _objects(resources: Any) -> DictionaryObject:
    objects = entry(resolved(resources), "/XObject")
    return objects if isinstance(objects, DictionaryObject) else DictionaryObject()


def _shows(operands: Any) -> bool:
    """Return whether a text is shown that has more than blanks."""
    for operand in operands:
        pieces = operand if isinstance(operand, list) else [operand]
        if any(isinstance(piece, bytes) and piece.strip(b" \0") for piece in pieces):
            return True
    return False


def _product(first: Any, second: Matrix) -> Matrix:
    a, b, c, d, e, f = (float(number) for number in first)
    p, q, r, s, t, u = second
    return (
        a * p + b * r,
        a * q + b * s,
        c * p + d * r,
        c * q + d * s,
        e * p + f * r + t,
        e * q + f * s + u,
    )
