"""How request bodies reach Django: also those in chunks, and none for longer than is decent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import gevent
from django.conf import settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# The one address that takes documents, as in haproxy.cfg.
UPLOAD_PATH = "/v1/jobs"


class RequestBodies:
    """Bound the time that a body may take, and give one in chunks a length.

    Django takes a body without `Content-Length` for an empty one, and REST framework the same. So
    a chunked body is said to be as long as a body may be, and one byte more: the server's stream
    ends where the chunks do (`wsgi.input_terminated`), so that reading on to the pretended length
    is safe; a longer body is found out by its last byte.
    """

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass the request on."""
        is_chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
        if is_chunked and environ.get("wsgi.input_terminated"):
            environ["CONTENT_LENGTH"] = str(_most_bytes(environ) + 1)
        environ["wsgi.input"] = TimedInput(environ["wsgi.input"], _seconds(environ))
        return self.application(environ, start_response)


class TimedInput:
    """A request's stream, all of whose reads together may take `seconds`.

    Raises TimeoutError then; Django makes UnreadablePostError of it. A client that sends a byte
    now and then would otherwise hold its place for ever.
    """

    def __init__(self, stream: Any, seconds: float) -> None:
        self._stream = stream
        self._deadline = time.monotonic() + seconds

    def read(self, *size: int) -> bytes:
        """Read as the server's stream does."""
        return self._timed(self._stream.read, *size)

    def readline(self, *size: int) -> bytes:
        """Read a line as the server's stream does."""
        return self._timed(self._stream.readline, *size)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _timed(self, read: Callable[..., bytes], *size: int) -> bytes:
        left = max(0.001, self._deadline - time.monotonic())
        with gevent.Timeout(left, TimeoutError("the request's body did not come in time")):
            return read(*size)


def _most_bytes(environ: WSGIEnvironment) -> int:
    kind = environ.get("CONTENT_TYPE", "").lower()
    is_upload = (
        environ["REQUEST_METHOD"] == "POST"
        and environ["PATH_INFO"] == UPLOAD_PATH
        and kind.startswith("multipart/form-data")
    )
    return settings.MAX_UPLOAD_BYTES if is_upload else settings.MAX_BODY_BYTES


def _seconds(environ: WSGIEnvironment) -> float:
    """Return the body's time: a document has as much more as it may be larger than other bodies."""
    if environ["PATH_INFO"] != UPLOAD_PATH:
        return settings.BODY_TIMEOUT_SECONDS
    length = environ.get("CONTENT_LENGTH") or "0"
    most = min(int(length) if length.isdecimal() else 0, _most_bytes(environ))
    return settings.BODY_TIMEOUT_SECONDS * max(1.0, most / settings.MAX_BODY_BYTES)
