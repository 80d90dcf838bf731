"""Cut images, sounds and files out of a request's body before it is parsed.

A megabyte of base64 costs as much time in each step of a JSON parser, of its checks and of their
bounds as a megabyte of text, and none of these steps lets other requests run. Cut out, it costs a
search for quotation marks, and what is left of the body is bounded like every other body.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import gevent
import orjson
from django.conf import settings

# Shorter texts stay in the body, and count as its text.
LONG_BYTES = 16 * 1024
_WINDOW = LONG_BYTES // 2
_SLICE_BYTES = 1024 * 1024
_HEAD = re.compile(r"(?:data:[a-z]+/[A-Za-z0-9.+-]{1,100};base64,)?")
_NAME = re.compile(rb"\s*(?::|$)")
# The members of a part that hold base64.
_FIELDS = ("data", "file_data", "image_url", "url")


class MediaBody:
    """A JSON text whose long base64 texts were replaced by short names.

    Invariant: a text is cut only between the quotation marks of one JSON string, so that the rest
    is JSON if and only if the body is. A name cannot be guessed, and so not be sent.
    """

    def __init__(self, raw: bytes) -> None:
        self._by_name: dict[str, str] = {}
        self._prefix = f"media-{secrets.token_hex(16)}-"
        self.rest = b"".join(self._pieces(raw))
        # What the body has besides images, sounds and files, as far as is known.
        self.rest_bytes = len(self.rest)

    def _pieces(self, raw: bytes) -> Iterator[bytes]:
        """Yield the body, with names for what was cut out; other greenlets run between cuts."""
        done = 0
        for start, end in _long_strings(raw):
            text = _base64_text(raw, start, end)
            if text is not None:
                name = f"{self._prefix}{len(self._by_name)}"
                self._by_name[name] = text
                yield raw[done:start]
                yield name.encode()
                done = end
        yield raw[done:]

    def put_back(self, value: Any) -> bool:
        """Put the texts into the parts of messages in the parsed rest.

        Returns False where some were nothing that such a part holds: they are in `rest` again,
        which must be measured and parsed once more.
        """
        unused = dict(self._by_name)
        for fields in _containers(value):
            for field in _FIELDS:
                name = fields.get(field)
                if isinstance(name, str) and name in unused:
                    fields[field] = unused.pop(name)
        if unused:
            self._restore(unused)
        return not unused

    def _restore(self, texts: dict[str, str]) -> None:
        self.rest_bytes += sum(map(len, texts.values()))
        if self.rest_bytes > settings.MAX_BODY_BYTES:
            return
        for name in texts:
            del self._by_name[name]

        def original(match: re.Match[bytes]) -> bytes:
            name = match[0].decode()
            return orjson.dumps(texts[name])[1:-1] if name in texts else match[0]

        self.rest = re.sub(self._prefix.encode() + rb"\d+", original, self.rest)


def _long_strings(raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of each stretch without quotation marks that has LONG_BYTES or more."""
    done = 0
    at = 0
    while at + _WINDOW <= len(raw):
        # Each long stretch holds a complete window.
        if raw.find(b'"', at, at + _WINDOW) >= 0:
            at += _WINDOW
            continue
        start = raw.rfind(b'"', done, at) + 1
        end = raw.find(b'"', at + _WINDOW)
        if end < 0:
            return
        if start and end - start >= LONG_BYTES:
            yield start, end
        done = end
        at = end + 1


def _base64_text(raw: bytes, start: int, end: int) -> str | None:
    """Return the text of a JSON string that is base64 or a data URL, as far as it is seen here.

    None for any other stretch. Between two strings of JSON there is a comma or a colon, so that one
    without them is within a string. Other greenlets run between its slices.
    """
    is_escaped = raw[start - 2 : start - 1] == b"\\" or raw[end - 1 : end] == b"\\"
    if is_escaped or _NAME.match(raw, end + 1, end + 64):
        return None
    texts: list[str] = []
    while start < end:
        stop = min(start + _SLICE_BYTES, end)
        # No escape, of at most six characters, is cut in two.
        if stop < end and (escape := raw.find(b"\\", stop - 5, stop)) >= 0:
            stop = escape
        text = _plain_text(raw[start:stop])
        data = 0 if texts or text is None else _HEAD.match(text).end()  # type: ignore[union-attr]
        if text is None or text.find(",", data) >= 0 or text.find(":", data) >= 0:
            return None
        texts.append(text)
        if (start := stop) < end:
            gevent.sleep(0)
    return "".join(texts)


def _plain_text(piece: bytes) -> str | None:
    """Return a part of a JSON string, if it is ASCII and none of it a backslash."""
    try:
        if b"\\" not in piece:
            return piece.decode("ascii")
        # Some serializers escape `/`, `+` or `=`.
        text: str = orjson.loads(b'"%b"' % piece)
    except (UnicodeDecodeError, orjson.JSONDecodeError):
        return None
    return text if text.isascii() and "\\" not in text else None


def _containers(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the parts of a request's messages, and the objects right in them."""
    items = value.get("messages") or value.get("input") if isinstance(value, dict) else None
    for item in items if isinstance(items, list) else []:
        content = item.get("content") if isinstance(item, dict) else None
        for part in content if isinstance(content, list) else []:
            if isinstance(part, dict):
                yield part
                yield from [inner for inner in part.values() if isinstance(inner, dict)]
