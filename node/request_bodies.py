"""Request bodies: chunked ones get a length, and all are bounded by BODY_TIMEOUT_SECONDS."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
from django.conf import settings

from config.api.body_limits import body_length, body_limit
from config.api.paths import JOBS
from config.request_setup import paused_setup
from node import gunicorn_body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# In the environment of a request: takes how many bytes of a chunked body were read.
BODY_READ = "headrace.body_read"


class RequestBodies:
    """A WSGI layer that bounds the time of a body, and sets the length of a chunked one.

    Django takes a body without `Content-Length` for an empty one, and REST framework the same. So
    a chunked body gets the length that a body may have, and one byte more: the server's stream
    ends where the chunks do (`wsgi.input_terminated`), so that reading on to the pretended length
    is safe; a longer body shows by its last byte.
    """

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass the request on."""
        is_chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
        if is_chunked and environ.get("wsgi.input_terminated"):
            environ["CONTENT_LENGTH"] = str(_most_bytes(environ) + 1)
        stream = environ["wsgi.input"]
        if is_upload(environ):
            environ["wsgi.input"] = PacedInput(stream)
        elif is_chunked:
            environ["wsgi.input"] = CountedInput(stream, environ.get(BODY_READ))
        elif body_length(environ) > settings.MAX_BODY_BYTES:
            environ["wsgi.input"] = PacedInput(stream)
        else:
            environ["wsgi.input"] = TimedInput(stream)
        return self.application(environ, start_response)


class TimedInput:
    """A request's stream, all of whose reads together may take BODY_TIMEOUT_SECONDS.

    Raises TimeoutError then; Django makes UnreadablePostError of it. A client that sends a byte
    now and then would otherwise hold its slot for ever.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._deadline = time.monotonic() + settings.BODY_TIMEOUT_SECONDS

    def read(self, *size: int) -> bytes:
        """Read as the server's stream does."""
        return self._timed(partial(gunicorn_body.read, self._stream), *size)

    def readline(self, *size: int) -> bytes:
        """Read a line as the server's stream does."""
        return self._timed(self._stream.readline, *size)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _timed(self, read: Callable[..., bytes], *size: int) -> bytes:
        left = max(0.001, self._deadline - time.monotonic())
        # How fast a client sends says nothing about the load of this process.
        with (
            paused_setup(),
            gevent.Timeout(left, TimeoutError("the request body did not arrive in time")),
        ):
            return read(*size)


class CountedInput(TimedInput):
    """A chunked body's stream, which calls `on_read` with the number of bytes read so far."""

    def __init__(self, stream: Any, on_read: Callable[[int], None] | None) -> None:
        super().__init__(stream)
        self._on_read = on_read
        self._count = 0

    def _timed(self, read: Callable[..., bytes], *size: int) -> bytes:
        data = super()._timed(read, *size)
        self._count += len(data)
        if self._on_read is not None:
            self._on_read(self._count)
        return data


class PacedInput(TimedInput):
    """The stream of a document, or of images: it may take longer, but pause no longer.

    Each byte earns time, MAX_BODY_BYTES the BODY_TIMEOUT_SECONDS that are also the most it can have
    left. So an upload that stalls ends after these seconds however much of it has come, and one
    that comes at this pace goes on to its end.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._left = settings.BODY_TIMEOUT_SECONDS

    def _timed(self, read: Callable[..., bytes], *size: int) -> bytes:
        started = time.monotonic()
        self._deadline = started + self._left
        data = super()._timed(read, *size)
        earned = settings.BODY_TIMEOUT_SECONDS * len(data) / settings.MAX_BODY_BYTES
        spent = time.monotonic() - started
        self._left = min(settings.BODY_TIMEOUT_SECONDS, self._left - spent + earned)
        return data


def _most_bytes(environ: WSGIEnvironment) -> int:
    return settings.MAX_UPLOAD_BYTES if is_upload(environ) else body_limit(environ)


def is_upload(environ: WSGIEnvironment) -> bool:
    """Return whether a request brings a document."""
    kind: str = environ.get("CONTENT_TYPE", "").lower()
    return (
        environ["REQUEST_METHOD"] == "POST"
        and environ["PATH_INFO"] == JOBS
        and kind.startswith("multipart/form-data")
    )
