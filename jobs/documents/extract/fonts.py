"""Fonts whose characters are what they show, or unknown, and never others."""

from typing import Any

from pypdf._codecs import adobe_glyphs
from pypdf.generic import DictionaryObject, StreamObject
from pypdf.generic._font import Font

from jobs.documents.extract.cmaps import UNKNOWN, encoding_of
from jobs.documents.extract.objects import entry, items

IDENTITY = ("/Identity-H", "/Identity-V")
MAX_CACHED = 32

_cache: dict[Any, Font] = {}


class _Mapped(dict[str, str]):
    """A font's table of characters; codes that are not in it are unknown."""

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key, UNKNOWN)


def checked(read: Any) -> Any:
    """Return pypdf's reader of fonts with our encodings, for which fonts are also cached.

    pypdf reads a font again on each page.
    """

    def from_font_resource(resource: DictionaryObject) -> Font:
        reference = resource.indirect_reference
        key = None if reference is None else (reference.idnum, reference.generation)
        if key in _cache:
            return _cache[key]
        font: Font = read(resource)
        if entry(resource, "/Subtype") == "/Type0":
            _check_composite(font, resource)
        elif isinstance(font.encoding, dict):
            _check_simple(font.encoding)
        if key is not None:
            if len(_cache) >= MAX_CACHED:
                _cache.clear()
            _cache[key] = font
        return font

    return from_font_resource


def _check_composite(font: Font, resource: DictionaryObject) -> None:
    encoding = entry(resource, "/Encoding")
    # A CMap inside the file may be a copy of one that has a name.
    name = entry(encoding, "/CMapName") if isinstance(encoding, StreamObject) else encoding
    named = encoding_of(name) if isinstance(name, str) else None
    has_table = isinstance(entry(resource, "/ToUnicode"), StreamObject) and bool(font.character_map)
    if named is not None:
        font.encoding = named
    elif has_table:
        # Codes of two bytes, as nearly all are.
        font.encoding = "utf-16-be"
        font.character_map = _Mapped(font.character_map)
    elif name not in IDENTITY or not _has_unicode_codes(resource):
        font.encoding = "pdf_unknown"
        font.character_map = {}


def _has_unicode_codes(resource: DictionaryObject) -> bool:
    """Return whether codes are characters, not numbers of glyphs."""
    if not isinstance(entry(resource, "/ToUnicode"), StreamObject | None):
        # /Identity-H, by which programs say so.
        return True
    # Only characters need a table from them to glyphs.
    fonts = items(resource.get("/DescendantFonts"))
    return any(isinstance(entry(font, "/CIDToGIDMap"), StreamObject) for font in fonts)


def _check_simple(encoding: dict[int, str]) -> None:
    """Replace names of glyphs, which pypdf shows as text where it has no character for them."""
    for code, text in encoding.items():
        if len(text) > 1 and text.startswith("/"):
            encoding[code] = _characters_of(text[1:])


def _characters_of(name: str) -> str:
    """Return the text of a glyph's name by Adobe's rules: `f_i`, `a.sc`, `uni00410042`."""
    texts = [_character_of(part) for part in name.split(".", maxsplit=1)[0].split("_")]
    return UNKNOWN if not all(texts) else "".join(text or "" for text in texts)


def _character_of(part: str) -> str | None:
    if (text := adobe_glyphs.get(f"/{part}")) is not None:
        return text
    digits = part.removeprefix("uni") if part.startswith("uni") else part.removeprefix("u")
    size = 4 if part.startswith("uni") else len(digits)
    if digits == part or size not in (4, 5, 6) or len(digits) % size:
        return None
    try:
        codes = [int(digits[at : at + size], 16) for at in range(0, len(digits), size)]
        return "".join(map(chr, codes))
    except ValueError:
        return None


def install() -> None:
    """Have pypdf read fonts by these rules from now on."""
    Font.from_font_resource = checked(Font.from_font_resource)  # type: ignore[method-assign]
