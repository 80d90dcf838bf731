"""Text that lies over a page: the values of a form's fields, and what was typed on it."""

import re
from collections.abc import Iterator
from typing import Any

from pypdf import PageObject
from pypdf.generic import ArrayObject, DictionaryObject, StreamObject

from jobs.documents.extract.objects import entry, items, resolved

# Annotation flags (ISO 32000-1, table 165) and field flags (tables 226 to 230).
HIDDEN_OR_NO_VIEW = 1 << 1 | 1 << 5
PASSWORD = 1 << 13
PUSH_BUTTON = 1 << 16
MAX_PARENTS = 32
# XFA's count in a name: `Name[0]`.
COUNT = re.compile(r"\[\d+\]$")


def values_of(page: PageObject) -> list[str]:
    """Return a line for each field with a value, after its label, and for each text on top.

    A form's filled fields are no part of its page's content, but of annotations.
    """
    lines = []
    for annotation in items(page.get("/Annots")):
        if _number(annotation, "/F") & HIDDEN_OR_NO_VIEW:
            continue
        kind = entry(annotation, "/Subtype")
        if kind == "/Widget":
            value = _field_value(page, annotation)
            label = _label(annotation)
            text = f"{label}: {value}" if label and value else value
        elif kind in ("/FreeText", "/Stamp"):
            text = _text(entry(annotation, "/Contents")) if kind == "/FreeText" else ""
            text = text or _appearance(page, annotation)
        else:
            continue
        if text.strip():
            lines.append(text.strip())
    return lines


def _field_value(page: PageObject, widget: DictionaryObject) -> str:
    kind, flags = _inherited(widget, "/FT"), _number(widget, "/Ff")
    if kind == "/Btn":
        return "" if flags & PUSH_BUTTON else _choice_of_button(widget)
    if kind == "/Tx" and flags & PASSWORD:
        return ""
    if kind == "/Sig":
        return _appearance(page, widget)
    value = _inherited(widget, "/V")
    chosen = value if isinstance(value, ArrayObject) else [value]
    texts = [_text(one) for one in chosen]
    if kind == "/Ch":
        shown = dict(_options(widget))
        texts = [shown.get(text, text) for text in texts]
    # Some programs write only how the value looks.
    return ", ".join(filter(None, texts)) or _appearance(page, widget)


def _choice_of_button(widget: DictionaryObject) -> str:
    """Return the value of a box or a radio button that is on, else an empty text."""
    state = entry(widget, "/AS") or _inherited(widget, "/V")
    if not isinstance(state, str) or state == "/Off" or not _has_state(widget, state):
        return ""
    name = state.removeprefix("/")
    options = [shown for _, shown in _options(widget)]
    return options[int(name)] if name.isdecimal() and int(name) < len(options) else name


def _has_state(widget: DictionaryObject, state: str) -> bool:
    looks = _looks(widget)
    return not isinstance(looks, DictionaryObject) or state in looks


def _options(widget: DictionaryObject) -> Iterator[tuple[str, str]]:
    """Yield the stored and the shown text of each option."""
    for pair in items(_inherited(widget, "/Opt")):
        if isinstance(pair, ArrayObject) and len(pair) > 1:
            yield _text(pair[0]), _text(pair[1])
        else:
            yield _text(pair), _text(pair)


def _label(widget: DictionaryObject) -> str:
    if label := _text(_inherited(widget, "/TU")):
        return label
    return COUNT.sub("", _text(_inherited(widget, "/T")))


def _appearance(page: PageObject, annotation: DictionaryObject) -> str:
    looks = _looks(annotation)
    if isinstance(looks, DictionaryObject) and not isinstance(looks, StreamObject):
        looks = entry(looks, str(entry(annotation, "/AS")))
    if not isinstance(looks, StreamObject):
        return ""
    return page.extract_xform_text(looks).strip()  # type: ignore[arg-type]


def _looks(annotation: DictionaryObject) -> Any:
    return entry(entry(annotation, "/AP"), "/N")


def _inherited(field: DictionaryObject, key: str) -> Any:
    """Return a field's value, or that of the nearest field above it."""
    for _ in range(MAX_PARENTS):
        if (value := entry(field, key)) is not None:
            return value
        field = entry(field, "/Parent")
    return None


def _number(field: DictionaryObject, key: str) -> int:
    value = entry(field, "/F") if key == "/F" else _inherited(field, key)
    return value if isinstance(value, int) else 0


def _text(value: Any) -> str:
    value = resolved(value)
    if isinstance(value, StreamObject):
        raw = value.get_data()
        is_utf16 = raw.startswith(b"\xfe\xff")
        return raw.decode("utf-16" if is_utf16 else "utf-8", "replace")
    if isinstance(value, bytes):
        return value.decode("cp1252", "replace")
    return str(value).removeprefix("/") if isinstance(value, str | int | float) else ""
