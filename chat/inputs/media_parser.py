"""The parser of bodies that bring images, sounds and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

import gevent
from django.conf import settings

from chat.inputs.media_bodies import MediaBody
from chat.metrics import MEDIA_REFUSED
from config.api.body_limits import body_length, body_limit
from config.api.errors import ApiError
from config.api.json import JsonParser, loads

READ_BYTES = 256 * 1024


class MediaJsonParser(JsonParser):
    """Read a JSON body of at most MAX_MEDIA_BODY_BYTES.

    Without its images, sounds and files it may have MAX_BODY_BYTES, and is bounded like others.
    """

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the parsed body; a large one lets other greenlets run in between."""
        environ = (parser_context or {})["request"].META
        length, most = body_length(environ), body_limit(environ)
        if length <= settings.MAX_BODY_BYTES or most <= settings.MAX_BODY_BYTES:
            return super().parse(stream, media_type, parser_context)
        if length > most:
            # Read, within reason: the answer is lost to a client that is still sending.
            for _ in _pieces(stream, most):
                pass
            raise _too_large("MAX_MEDIA_BODY_BYTES", most, "")
        body = MediaBody(b"".join(_pieces(stream, length)))
        # Once more where a text only looked like base64.
        while body.rest_bytes <= settings.MAX_BODY_BYTES:
            value = loads(body.rest)
            gevent.sleep(0)
            if body.put_back(value):
                return value
        raise _too_large(
            "MAX_BODY_BYTES", settings.MAX_BODY_BYTES, " besides images, sounds and files"
        )


def _pieces(stream: IO[Any], size: int) -> Iterator[bytes]:
    """Yield so many bytes of a body in pieces: time is counted by the piece (node.PacedInput)."""
    while size > 0 and (piece := stream.read(min(READ_BYTES, size))):
        size -= len(piece)
        yield piece


def _too_large(setting: str, most: int, besides: str) -> ApiError:
    MEDIA_REFUSED.labels(setting).inc()
    return ApiError(
        413, f"The body may be {most} bytes{besides} ({setting}).", code="body_too_large"
    )
