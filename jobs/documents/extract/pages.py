"""The text of a page, and a mark in it where content was not read."""

import re
from dataclasses import dataclass

from pypdf import PageObject
from pypdf.errors import FileNotDecryptedError, LimitReachedError

from jobs.documents.extract import losses
from jobs.documents.extract.cmaps import UNKNOWN
from jobs.documents.extract.fields import values_of
from jobs.documents.extract.pictures import Painted, painted_on

MARKS = {
    losses.DAMAGED: "[Page {number} is damaged; not all of its text could be read.]",
    losses.UNKNOWN_CHARACTERS: (
        "[Page {number} has characters that its fonts do not name; they could not be read.]"
    ),
    losses.PICTURES: "[Page {number} is a picture or drawing; text in it could not be read.]",
}
# A scan may have a number or a stamp as text; with more than that a picture is a background.
FEW_CHARS = 200
PICTURE_SHARE = 0.5
UNKNOWN_RUN = re.compile(rf"{UNKNOWN}(?:\s*{UNKNOWN})+")


@dataclass(frozen=True, kw_only=True)
class PageText:
    """The text of a page with its mark; `loss` is one of MARKS, or None for a complete page."""

    text: str
    has_text: bool
    loss: str | None


def read_page(page: PageObject, number: int) -> PageText:
    """Return the page's text, the values of its form's fields, and a mark if content is missing."""
    losses.forget()
    parts: list[str] = []
    is_damaged = False
    try:
        parts.append(page.extract_text())
        parts += values_of(page)
    except (FileNotDecryptedError, MemoryError, LimitReachedError):
        raise
    # A page's objects may be of any kind, and pypdf's errors are.
    except Exception:
        is_damaged = True
    text = UNKNOWN_RUN.sub(UNKNOWN, _without_lone_surrogates("\n".join(filter(None, parts))))
    words = text.replace(UNKNOWN, "").strip()
    if is_damaged or losses.is_damaged():
        loss: str | None = losses.DAMAGED
    elif UNKNOWN in text:
        loss = losses.UNKNOWN_CHARACTERS
    else:
        loss = _unread_pictures(page, words)
    if loss is not None:
        text = f"{text}\n{MARKS[loss].format(number=number)}".lstrip("\n")
    return PageText(text=text, has_text=bool(words), loss=loss)


def _unread_pictures(page: PageObject, words: str) -> str | None:
    if len(words) > FEW_CHARS:
        return None
    try:
        painted: Painted = painted_on(page)
    except (MemoryError, LimitReachedError):
        raise
    except Exception:
        return losses.DAMAGED
    if painted.shows_text and not words:
        return losses.UNKNOWN_CHARACTERS
    if painted.is_anything and (not words or painted.picture_share > PICTURE_SHARE):
        return losses.PICTURES
    return None


def _without_lone_surrogates(text: str) -> str:
    """Join the pairs that some fonts' tables leave apart; half a pair is no character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
