"""Texts from outside, as UTF-8 and as PostgreSQL can store them."""

from __future__ import annotations

# The first half of a pair that stands for one character, in UTF-16 and in JSON's escapes.
FIRST_HALVES = ("\ud800", "\udbff")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> str:
    """Return a well-formed text without NUL.

    PostgreSQL stores neither; models, receivers of webhooks and parsers of documents send both.
    """
    return well_formed(text.replace("\0", ""))


def well_formed(text: str) -> str:
    """Return a text with halves of surrogate pairs joined, and U+FFFD for each lone one."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class TextPieces:
    """The pieces of one text, which may be cut between the halves of a surrogate pair."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, piece: str) -> str:
        """Return the well-formed text up to here; a first half waits for the next piece."""
        piece = self._half + piece
        self._half = ""
        if piece and FIRST_HALVES[0] <= piece[-1] <= FIRST_HALVES[1]:
            piece, self._half = piece[:-1], piece[-1]
        return well_formed(piece)

    def end(self) -> str:
        """Return what is left: U+FFFD for a half whose other half never came."""
        half, self._half = self._half, ""
        return REPLACEMENT if half else ""
