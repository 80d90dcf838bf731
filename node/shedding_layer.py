"""The layer that sheds load: 503 for requests that a busy node could answer only late.

node.load_shedding decides. Never refused: a hit in memory, a cancel, health checks and metrics.
Pages have slots of their own (node.page_slots).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from config.api.errors import ApiError
from config.api.paths import API_PREFIXES
from config.request_setup import current_setup
from node.callers import CALLERS
from node.fast_path import FastResponse, Handler
from node.load_shedding import LoadShedder
from node.refusals import refusal

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# As in haproxy.cfg.
CANCEL = re.compile(r"/v1/(jobs|responses)/[^/]+/cancel")
# For the load balancer: these credentials are some account's.
KNOWN = [("x-headrace-known", "1")]
REFUSAL = ApiError(
    503,
    "This node is overloaded; try again shortly.",
    code="overloaded",
    retry_after_seconds=1,
)


class LoadSheddingLayer:
    """A WSGI layer around all others, and a fast path around `hits`."""

    def __init__(
        self, application: WSGIApplication, shedder: LoadShedder, hits: Handler | None = None
    ) -> None:
        self._application = application
        self._shedder = shedder
        self._hits = hits

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, or pass the request on."""
        if not _may_be_refused(environ["PATH_INFO"]):
            return self._application(environ, start_response)
        credentials = environ.get("HTTP_AUTHORIZATION", "")
        caller = CALLERS.find(credentials)
        if self._shedder.is_full(caller):
            refused = self._refusal(environ.get("HTTP_X_REQUEST_ID", ""))
            start_response(refused.status, refused.headers)
            return [refused.body]
        mine = self._shedder.begin(time.monotonic(), caller)
        token = current_setup.set(mine)

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            mine.end()
            known = [] if CALLERS.find(credentials) is None else KNOWN
            return start_response(status, [*headers, *self._shedder.headers, *known], *more)

        try:
            return self._application(environ, start)
        finally:
            mine.end()
            current_setup.reset(token)

    def handle(self, path: str, headers: Mapping[str, str], body: bytes) -> FastResponse | None:
        """Answer a request that gunicorn has not parsed (node.fast_path.Handler)."""
        if self._hits is not None and (found := self._hits(path, headers, body)) is not None:
            self._shedder.hit()
            return found
        if _may_be_refused(path) and self._shedder.is_full(
            CALLERS.find(headers.get("authorization", ""))
        ):
            return self._refusal(headers.get("x-request-id", ""))
        return None

    def _refusal(self, request_id: str) -> FastResponse:
        return refusal(REFUSAL, request_id, self._shedder.headers)


def _may_be_refused(path: str) -> bool:
    """Return whether a path is the API's, except a cancel, which makes less work."""
    return path.startswith(API_PREFIXES) and not CANCEL.fullmatch(path)
