"""Answer cached requests in front of Django: the same checks as Django's, and none of its work.

Only fresh responses are sent from here. A request that is not plain (another method, a stale
response, a header for the cache, any doubt) goes on to Django.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import DatabaseError
from psycopg_pool import PoolTimeout

from access.errors import LimitExceeded, Unauthenticated
from access.metrics import KEYS_REFUSED
from access.services import find_by_digest
from chat.caching.cache_key import EDGE_MISS_KEY
from chat.caching.edge_response import render_hit
from chat.caching.parsed_requests import INVOKE, ParsedRequests, read_secret_digest
from config.api.errors import ApiError
from config.api.paths import COMPLETIONS
from node.fast_path import FastResponse
from node.refusals import refusal
from scaling.response_cache import cache

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SCOPE = "chat"


class EdgeCache:
    """A WSGI layer in front of Django.

    A request whose bytes came before costs a few lookups in memory; another is parsed as JSON, and
    looked up by the same key that Django's views use.
    """

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application
        self.parsed_requests = ParsedRequests()
        # Read here, because each look at the settings costs a request half a microsecond.
        self._max_body_bytes: int = settings.CACHE_EDGE_MAX_BODY_BYTES
        self._wants_https: bool = settings.SECURE_SSL_REDIRECT

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, or pass the request on."""
        proto = environ.get("HTTP_X_FORWARDED_PROTO") or environ.get("wsgi.url_scheme")
        is_candidate = _is_candidate(environ) and not self._is_redirected(proto)
        length = _length(environ) if is_candidate else 0
        is_candidate = 0 < length <= self._max_body_bytes
        try:
            is_candidate = is_candidate and _has_key(environ)
        except Unauthenticated as error:
            found = _refuse_key(error, environ.get("HTTP_X_REQUEST_ID", ""))
            start_response(found.status, found.headers)
            return [found.body]
        if is_candidate and (body := _read(environ, length)) is not None:
            answer = self._find(
                environ["PATH_INFO"],
                body,
                authorization=environ.get("HTTP_AUTHORIZATION", ""),
                request_id=environ.get("HTTP_X_REQUEST_ID", ""),
            )
            if isinstance(answer, FastResponse):
                start_response(answer.status, answer.headers)
                return [answer.body]
            environ[EDGE_MISS_KEY] = answer
        return self.application(environ, start_response)

    def handle(self, path: str, headers: Mapping[str, str], body: bytes) -> FastResponse | None:
        """Answer a request that gunicorn has not parsed, from this process's memory alone.

        This is a node.fast_path.Handler.
        """
        if not _is_cached_path(path) or not body:
            return None
        if not _is_json(headers.get("content-type", "")):
            return None
        if self._is_redirected(headers.get("x-forwarded-proto")):
            return None
        found = self._find(
            path,
            body,
            authorization=headers.get("authorization", ""),
            request_id=headers.get("x-request-id", ""),
            is_near_only=True,
        )
        return found if isinstance(found, FastResponse) else None

    def _is_redirected(self, proto: str | None) -> bool:
        """Return whether Django redirects this request to HTTPS, or must decide whether to."""
        return self._wants_https and proto != "https"

    def _find(
        self,
        path: str,
        body: bytes,
        *,
        authorization: str,
        request_id: str,
        is_near_only: bool = False,
    ) -> FastResponse | str | None:
        """Return the response, or the key that nothing is stored under; else None."""
        try:
            parsed = self.parsed_requests.lookup(path, body, authorization)
            if parsed is None or parsed.key is None:
                return None
            principal = find_by_digest(parsed.secret_digest)
            if SCOPE not in principal.scopes:
                return None
            found = cache.find_near(parsed.key)
            if found is None and not is_near_only:
                found = cache.find_stored(parsed.key)
                if found is None:
                    return parsed.key
            if found is None or not found.is_fresh:
                return None
            return render_hit(found, principal, request_id=request_id, new_ids=parsed.new_ids)
        except LimitExceeded as error:
            # Django would count in Redis, which gets hits a little later.
            return refusal(error, request_id)
        except Unauthenticated as error:
            return _refuse_key(error, request_id)
        except (ApiError, DatabaseError, PoolTimeout):
            # Django answers with the error, also that the database is unavailable.
            return None


def _refuse_key(error: Unauthenticated, request_id: str) -> FastResponse:
    """Answer a wrong key as Django would, at less cost: there may be a flood of them."""
    KEYS_REFUSED.labels(error.code).inc()
    return refusal(error, request_id)


def _is_cached_path(path: str) -> bool:
    return path == COMPLETIONS or INVOKE.fullmatch(path) is not None


def _is_candidate(environ: WSGIEnvironment) -> bool:
    path: str = environ["PATH_INFO"]
    return (
        environ["REQUEST_METHOD"] == "POST"
        and _is_cached_path(path)
        and not environ.get("QUERY_STRING")
        and "HTTP_CACHE_CONTROL" not in environ
        and "HTTP_TRANSFER_ENCODING" not in environ
        # Django decodes it.
        and "HTTP_CONTENT_ENCODING" not in environ
        and _is_json(environ.get("CONTENT_TYPE", ""))
    )


def _has_key(environ: WSGIEnvironment) -> bool:
    """Return whether there is a key; raises Unauthenticated for a wrong one, before the body."""
    try:
        digest = read_secret_digest(environ.get("HTTP_AUTHORIZATION", ""))
        return digest is not None and bool(find_by_digest(digest))
    except Unauthenticated:
        raise
    except (ApiError, DatabaseError, PoolTimeout):
        return False


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _length(environ: WSGIEnvironment) -> int:
    length = environ.get("CONTENT_LENGTH") or ""
    return int(length) if length.isascii() and length.isdecimal() else 0


def _read(environ: WSGIEnvironment, length: int) -> bytes | None:
    """Read the body, and make it readable again; None for one that stalls or breaks off."""
    stream = environ["wsgi.input"]
    try:
        body: bytes = stream.read(length)
    # Django reads on, meets the same fault and answers with it.
    except OSError:
        return None
    if len(body) < length:
        environ["wsgi.input"] = _PartlyRead(body, stream)
        return None
    environ["wsgi.input"] = io.BytesIO(body)
    return body


class _PartlyRead:
    """A body of which the first part was read already."""

    def __init__(self, first: bytes, rest: Any) -> None:
        self._first = first
        self._rest = rest

    def read(self, *size: int) -> bytes:
        """Return the first part, then read the server's stream."""
        first, self._first = self._first, b""
        return first or self._rest.read(*size)
