"""JSON in and out, by orjson: strict, and several times faster than the standard library.

orjson refuses NaN, infinities, invalid UTF-8 and lone surrogates, none of which PostgreSQL could
store or a client could read back.
"""

import codecs
import json
from collections.abc import Mapping
from typing import IO, Any

import gevent
import orjson
from django.conf import settings
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from config import exact_json
from config.api.content_encoding import decoded
from config.api.errors import ApiError, InvalidRequest

# A body that is as long takes milliseconds to parse, and as many again to validate.
LONG_BYTES = 64 * 1024


class JsonParser(BaseParser):
    """Read a JSON body of at most MAX_BODY_BYTES.

    It may be MAX_JSON_DEPTH deep, and have MAX_JSON_ITEMS values, MAX_JSON_MEMBERS of them in one
    object. Raises ApiError 413, or InvalidRequest (400) that says what is wrong.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the parsed body; after a long one other greenlets run first."""
        raw = stream.read(settings.MAX_BODY_BYTES + 1)
        request = (parser_context or {}).get("request")
        if request is not None and (encoding := request.headers.get("Content-Encoding")):
            # A longer one is refused by its length as it came.
            raw = raw if len(raw) > settings.MAX_BODY_BYTES else decoded(raw, encoding)
        value = loads(raw)
        if len(raw) > LONG_BYTES:
            gevent.sleep(0)
        return value


class JsonRenderer(BaseRenderer):
    """Write a JSON body."""

    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "binary"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the body; nothing for an answer without content."""
        return b"" if data is None else exact_json.dumps(data)


class JsonOnly(BaseContentNegotiation):
    """Every view speaks one language, so an `Accept` header changes nothing.

    SDKs send `Accept: text/event-stream` for a stream whose error is still JSON; a 406 would hide
    that error from them.
    """

    def select_parser(self, request: Request, parsers: Any) -> BaseParser | None:
        """Return the first parser for the body's type, or None for a 415."""
        content_type = (request.content_type or "").split(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == content_type), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the only renderer."""
        return renderers[0], renderers[0].media_type


def loads(raw: bytes) -> Any:
    """Return the value of a JSON text, integers to the digit; raises ApiError as `JsonParser` does.

    A byte order mark before it is skipped.
    """
    if len(raw) > settings.MAX_BODY_BYTES:
        raise ApiError(
            413,
            f"The body may be {settings.MAX_BODY_BYTES} bytes (MAX_BODY_BYTES).",
            code="body_too_large",
        )
    raw = raw.removeprefix(codecs.BOM_UTF8)
    refuse_many_items(raw)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from error
    _refuse_shape(value)
    # Read only now, because Python's parser recurses.
    return json.loads(raw) if exact_json.has_long_integer(raw) else value


def refuse_many_items(*texts: bytes, param: str | None = None) -> None:
    """Raise InvalidRequest for JSON texts of more values than MAX_JSON_ITEMS; none is parsed.

    A value costs up to fifty times its bytes in memory, and microseconds in each step after.
    """
    most = settings.MAX_JSON_ITEMS
    if sum(count_items(text, most) for text in texts) > most:
        raise InvalidRequest(
            f"There may be {most} values in {param or 'the body'} (MAX_JSON_ITEMS).",
            param=param,
            code="json_too_many_items",
        )


def count_items(raw: bytes, most: int) -> int:
    """Return how many values a JSON text has, or any number above `most` for more than that."""
    marks = _by_name(raw)
    if marks <= most:
        return marks
    # Most of these may stand in texts, which are left out.
    text = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    # A value may be a text of two quotation marks, and have a name of two.
    if text.count(b'"') > 4 * most:
        return most + 1
    return _by_name(b"".join(text.split(b'"')[::2]))


def _by_name(raw: bytes) -> int:
    """Return how many commas, arrays and objects there are, which are no fewer than the values."""
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _refuse_shape(value: Any) -> None:
    """Raise InvalidRequest for a value that is too deep, or an object of too many members.

    It walks the containers level by level, so that depth costs no recursion.
    """
    level = [value]
    for _ in range(settings.MAX_JSON_DEPTH):
        children: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if len(item) > settings.MAX_JSON_MEMBERS:
                    raise InvalidRequest(
                        f"An object may have {settings.MAX_JSON_MEMBERS} members "
                        "(MAX_JSON_MEMBERS).",
                        code="json_too_many_members",
                    )
                children += [child for child in item.values() if isinstance(child, dict | list)]
            elif isinstance(item, list):
                children += [child for child in item if isinstance(child, dict | list)]
        level = children
        if not level:
            return
    raise InvalidRequest(
        f"The body is nested deeper than {settings.MAX_JSON_DEPTH} levels (MAX_JSON_DEPTH).",
        code="json_too_deep",
    )
