"""Bound the requests that an account has open at a process, and the bytes that they hold.

A request takes a connection of its node, and the memory of its body and its answer, for as long as
its client sends, its model computes and its client reads. None of that costs a processor, so load
shedding does not see it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django.conf import settings

from config.api.body_limits import body_length, body_limit
from config.api.errors import ApiError
from config.api.paths import API_PREFIXES
from node.callers import CALLERS
from node.metrics import OPEN_BYTES, OPEN_REFUSED, OPEN_REQUESTS
from node.refusals import refusal
from node.request_bodies import BODY_READ, is_upload

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# What is smaller does no harm by its bytes: a process has only so many connections.
LARGE_BYTES = 64 * 1024
RETRY_AFTER_SECONDS = 1.0
OPEN_CODES = {
    "MAX_REQUESTS_PER_ACCOUNT": "too_many_open_requests",
    "MAX_REQUEST_BYTES_PER_ACCOUNT": "too_many_open_bytes",
}
MESSAGES = {
    "MAX_REQUESTS_PER_ACCOUNT": "This account may have {allowed} requests open at a node",
    "MAX_REQUEST_BYTES_PER_ACCOUNT": "The open requests of this account may hold {allowed} bytes"
    " of a node",
    "MAX_REQUEST_BYTES_PER_NODE": "The open requests of a node may hold {allowed} bytes",
}


class AccountOpenExceeded(ApiError):
    """The account has as much open here as `setting` allows."""

    def __init__(self, setting: str) -> None:
        super().__init__(
            429,
            _message(setting),
            code=OPEN_CODES[setting],
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )


class NodeOpenExceeded(ApiError):
    """All callers together hold as many bytes as `setting` allows."""

    def __init__(self, setting: str) -> None:
        super().__init__(
            503,
            _message(setting),
            code="too_many_open_bytes",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )


EXCEEDED = (AccountOpenExceeded, NodeOpenExceeded)


def _message(setting: str) -> str:
    return f"{MESSAGES[setting].format(allowed=getattr(settings, setting))} ({setting})."


def _exceeded(setting: str) -> AccountOpenExceeded | NodeOpenExceeded:
    """Count a refusal by a setting; return its error."""
    OPEN_REFUSED.labels(setting).inc()
    return NodeOpenExceeded(setting) if setting.endswith("_NODE") else AccountOpenExceeded(setting)


class OpenRequests:
    """The requests that are open in this process, and the bytes of large bodies and answers.

    An account is known by its credentials (node.callers); all others are one. Each size is a
    setting, 0 no limit.
    """

    def __init__(self) -> None:
        self._requests: Counter[Hashable | None] = Counter()
        self._bytes: Counter[Hashable | None] = Counter()
        self.all_bytes = 0

    def open(self, caller: Hashable | None, size: int) -> OpenRequest:
        """Count a request with a body of `size` bytes.

        Raises AccountOpenExceeded (429) or NodeOpenExceeded (503).
        """
        most = settings.MAX_REQUESTS_PER_ACCOUNT
        if most and self._requests[caller] >= most:
            raise _exceeded("MAX_REQUESTS_PER_ACCOUNT")
        if (setting := self.exceeded(caller, size)) is not None:
            raise _exceeded(setting)
        self._requests[caller] += 1
        OPEN_REQUESTS.inc()
        request = OpenRequest(self, caller)
        request.hold(size)
        return request

    def exceeded(self, caller: Hashable | None, size: int) -> str | None:
        """Return the setting that does not allow so many bytes more."""
        if size < LARGE_BYTES:
            return None
        most = settings.MAX_REQUEST_BYTES_PER_ACCOUNT
        if most and self._bytes[caller] + size > most:
            return "MAX_REQUEST_BYTES_PER_ACCOUNT"
        most = settings.MAX_REQUEST_BYTES_PER_NODE
        return "MAX_REQUEST_BYTES_PER_NODE" if most and self.all_bytes + size > most else None

    def add(self, caller: Hashable | None, size: int) -> None:
        """Count bytes of a caller; a negative number gives some back."""
        self.all_bytes += size
        self._bytes[caller] += size
        OPEN_BYTES.set(self.all_bytes)

    def leave(self, caller: Hashable | None) -> None:
        """Count a request of a caller as closed."""
        OPEN_REQUESTS.dec()
        self._requests[caller] -= 1
        if not self._requests[caller]:
            del self._requests[caller]
            self._bytes.pop(caller, None)


class OpenRequest:
    """One open request, until `close`."""

    def __init__(self, requests: OpenRequests, caller: Hashable | None) -> None:
        self._requests: OpenRequests | None = requests
        self._caller = caller
        self._body = 0
        self._answer = 0

    def hold(self, size: int) -> None:
        """Record that the body has so many bytes."""
        self._change(size - self._body if size >= LARGE_BYTES else -self._body)
        self._body = size if size >= LARGE_BYTES else 0

    def may_answer(self, size: int, *, is_read: bool) -> None:
        """Count an answer of so many bytes.

        Raises AccountOpenExceeded or NodeOpenExceeded for one that was only read.
        """
        if size < LARGE_BYTES or self._requests is None:
            return
        if is_read and (setting := self._requests.exceeded(self._caller, size)) is not None:
            raise _exceeded(setting)
        self._answer = size
        self._change(size)

    def close(self) -> None:
        """Give back what the request holds; a second call does nothing."""
        if self._requests is not None:
            self._change(-self._body - self._answer)
            self._requests.leave(self._caller)
            self._requests = None

    def _change(self, size: int) -> None:
        if size and self._requests is not None:
            self._requests.add(self._caller, size)


class OpenRequestsLayer:
    """A WSGI layer in front of the bodies: a request is open until its answer is closed."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self._requests = OpenRequests()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass an API request on, or refuse it with 429 or 503."""
        if not environ["PATH_INFO"].startswith(API_PREFIXES):
            return self._application(environ, start_response)
        try:
            mine = self._requests.open(
                CALLERS.find(environ.get("HTTP_AUTHORIZATION", "")), _body_bytes(environ)
            )
        except EXCEEDED as error:
            return _refuse(error, environ, start_response)
        environ[BODY_READ] = mine.hold
        is_read = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        refused: list[Iterable[bytes]] = []

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            try:
                mine.may_answer(_answer_bytes(headers), is_read=is_read)
            except EXCEEDED as error:
                refused.append(_refuse(error, environ, start_response))
                return None
            return start_response(status, headers, *more)

        try:
            body = self._application(environ, start)
        except BaseException:
            mine.close()
            raise
        return _Closing(body, refused, mine.close)


class _Closing:
    """A response's body, or in its place a refusal; `close` closes both."""

    def __init__(
        self, body: Iterable[bytes], refused: list[Iterable[bytes]], close: Callable[[], None]
    ) -> None:
        self._body = body
        self._refused = refused
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._refused[0] if self._refused else self._body)

    def close(self) -> None:
        try:
            if (close := getattr(self._body, "close", None)) is not None:
                close()
        finally:
            self._close()


def _body_bytes(environ: WSGIEnvironment) -> int:
    """Return how many bytes a body may have until it is read; uploads have budgets of their own."""
    if is_upload(environ):
        return 0
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        return body_limit(environ)
    # More is refused before it is read.
    return min(body_length(environ), body_limit(environ))


def _answer_bytes(headers: list[tuple[str, str]]) -> int:
    """Return a response's length, 0 for a stream."""
    return next((int(value) for name, value in headers if name.lower() == "content-length"), 0)


def _refuse(
    error: ApiError, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    refused = refusal(error, environ.get("HTTP_X_REQUEST_ID", ""))
    start_response(refused.status, refused.headers)
    return [refused.body]
