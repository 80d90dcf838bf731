"""Limit pages to a small share of a node, so that no flood of them takes it from the API.

A page is any request that is neither the API's nor a health check: the admin, `/docs`, static
files, and addresses that do not exist. Rendering one costs up to fifty times as much as an API
request.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import gevent
from gevent.lock import Semaphore

from config.api.errors import ApiError
from config.api.paths import NO_PAGE_PREFIXES
from node.metrics import PAGES_REFUSED
from node.refusals import refusal

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ADMIN = "/admin"
REFUSAL = ApiError(
    503,
    "This node has as many pages under way as PAGE_CONCURRENCY and PAGE_QUEUE allow; try again"
    " shortly.",
    code="overloaded",
    retry_after_seconds=1,
)
# A form of this size is read before its page takes a slot, as its client may be slow.
FORM_BYTES = 64 * 1024
# A slot rests no longer than this, however busy the process is.
MAX_REST_SECONDS = 2.0


class PageSlots:
    """At most `concurrency` pages at a time, `queue` waiting for `wait_seconds`.

    A slot rests after a page, so that it works no more than `cpu_share` of the time. The page's own
    processor time is not known: the thread's time since its start is taken for it, which on a
    busy node is more.
    """

    def __init__(
        self, *, concurrency: int, queue: int, wait_seconds: float, cpu_share: float
    ) -> None:
        self._slots = Semaphore(concurrency)
        self._queue = queue
        self._wait_seconds = wait_seconds
        self._rest = 1 / cpu_share - 1
        self.waiting = 0

    def acquire(self) -> bool:
        """Take a slot; False when none is free in time, or too many wait."""
        if self._slots.acquire(blocking=False):
            return True
        if self.waiting >= self._queue:
            return False
        self.waiting += 1
        try:
            return bool(self._slots.acquire(timeout=self._wait_seconds))
        finally:
            self.waiting -= 1

    def release(self, used_seconds: float) -> None:
        """Release a slot after its rest."""
        rest = min(used_seconds * self._rest, MAX_REST_SECONDS)
        gevent.spawn_later(rest, self._slots.release)


class Pages:
    """A WSGI layer in front of Django.

    The admin has slots of its own: clients without access to it (PROXY_ADMIN_ADDRESSES) do not take
    them from staff.
    """

    def __init__(self, application: WSGIApplication, new_slots: Callable[[], PageSlots]) -> None:
        self._application = application
        self._admin = new_slots()
        self._others = new_slots()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a page when it has a slot, and all other requests at once."""
        path: str = environ["PATH_INFO"]
        if path.startswith(NO_PAGE_PREFIXES):
            return self._application(environ, start_response)
        slots = self._admin if path.startswith(ADMIN) else self._others
        _read_form(environ)
        if not slots.acquire():
            PAGES_REFUSED.inc()
            refused = refusal(REFUSAL, environ.get("HTTP_X_REQUEST_ID", ""))
            start_response(refused.status, refused.headers)
            return [refused.body]
        began = time.thread_time()
        try:
            return self._application(environ, start_response)
        finally:
            slots.release(time.thread_time() - began)


def _read_form(environ: WSGIEnvironment) -> None:
    """Read a small body; one that stalls or breaks off is left to Django, which answers 400."""
    length = environ.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdecimal() and 0 < int(length) <= FORM_BYTES):
        return
    stream = environ["wsgi.input"]
    try:
        body = stream.read(int(length))
    except OSError:
        return
    if len(body) == int(length):
        environ["wsgi.input"] = io.BytesIO(body)
