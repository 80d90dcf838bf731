"""JSON in and out, by orjson: strict, and several times faster than the standard library.

orjson refuses NaN, infinities, invalid UTF-8 and lone surrogates, none of which PostgreSQL could
store or a client could read back.
"""

from collections.abc import Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from config.errors import ApiError, InvalidRequest


class JsonParser(BaseParser):
    """Read a JSON body of at most `MAX_BODY_BYTES`, at most `MAX_JSON_DEPTH` deep.

    Raises ApiError 413, or InvalidRequest (400) that says what is wrong.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the parsed body."""
        return loads(stream.read(settings.MAX_BODY_BYTES + 1))


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
        return b"" if data is None else orjson.dumps(data)


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
    """Return the value of a JSON text; raises ApiError as `JsonParser` says."""
    if len(raw) > settings.MAX_BODY_BYTES:
        raise ApiError(
            413, f"The body may be {settings.MAX_BODY_BYTES} bytes.", code="body_too_large"
        )
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from error
    if _is_deeper_than(value, settings.MAX_JSON_DEPTH):
        raise InvalidRequest(
            f"The body is nested deeper than {settings.MAX_JSON_DEPTH} levels.",
            code="json_too_deep",
        )
    return value


def _is_deeper_than(value: Any, depth: int) -> bool:
    """Walk the containers level by level, so that depth costs no recursion."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
