"""Let Django read bodies that come in chunks, whose length nobody knows before their end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class ChunkedBodies:
    """Say for a chunked body that it is as long as a body may be, and one byte more.

    Django takes a body without `Content-Length` for an empty one, and REST framework the same. The
    server's stream ends where the chunks do (`wsgi.input_terminated`), so that reading on to the
    pretended length is safe; a longer body is found out by its last byte.
    """

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass the request on."""
        is_chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
        if is_chunked and environ.get("wsgi.input_terminated"):
            environ["CONTENT_LENGTH"] = str(settings.MAX_BODY_BYTES + 1)
        return self.application(environ, start_response)
