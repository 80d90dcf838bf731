"""Answer from the cache before Django: the same checks as Django's, and none of its work.

Only fresh answers are given here. Whatever is not plain (another method, an old answer, a header
that wants something of the cache, any doubt) goes on to Django, which answers as ever.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError
from psycopg_pool import PoolTimeout

from access.errors import LimitExceeded
from access.limits import count_hit
from access.principal import Principal
from access.services import digest_of, find_by_digest
from chat.caching.cache_key import (
    EDGE_MISS_KEY,
    completion_key_fields,
    invoke_key_fields,
    is_deterministic_chain,
    is_deterministic_completion,
    request_key,
)
from chat.caching.cache_status import hit_headers
from chat.caching.response_ids import new_completion_identity, new_invoke_identity
from chat.chains.catalog import get_chain
from chat.chains.config import ChainConfig
from config.api.errors import ApiError
from config.api.json import loads
from config.api.paths import CHAINS, COMPLETIONS
from node.fast_path import FastResponse
from node.middleware import request_id_of
from node.refusals import refusal
from scaling.response_cache import cache, hit_counters
from scaling.response_cache.cache import Found
from scaling.response_cache.generations import MARKS, account_mark, chain_mark
from scaling.response_cache.keys import raw_digest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

INVOKE = re.compile(r"/chains/([-a-zA-Z0-9_]{1,64})/invoke")
SCOPE = "chat"
# Chain and marks may change this long without being noticed; looking each time is a tenth of a hit.
RECHECK_SECONDS = 0.02
MAX_SLUG_CHARS = 64
MAX_USER_CHARS = 512

Identity = Callable[[], tuple[bytes, ...]]


@dataclass(slots=True)
class Known:
    """What the bytes of a request stand for, as long as its chain and the marks stay as they are.

    `key` is None for a request that is not cached. `secret_digest` is the API key's.
    """

    secret_digest: str
    slug: str
    edition: tuple[int | None, int]
    generation: str
    key: str | None
    identity: Identity
    # When chain and marks were last compared, by the monotonic clock.
    checked_at: float = 0.0


class EdgeCache:
    """A WSGI layer in front of Django.

    A request whose bytes came before costs a few lookups in memory; another is read as JSON, and
    looked for by the same key that Django's views use.
    """

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application
        # Read here, because each look at the settings costs a request half a microsecond.
        self._max_body_bytes: int = settings.CACHE_EDGE_MAX_BODY_BYTES
        self._max_known: int = settings.CACHE_NEAR_MAX_ENTRIES
        self._wants_https: bool = settings.SECURE_SSL_REDIRECT
        self._known: dict[bytes, Known] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, or pass the request on."""
        proto = environ.get("HTTP_X_FORWARDED_PROTO") or environ.get("wsgi.url_scheme")
        is_candidate = _is_candidate(environ) and not self._is_redirected(proto)
        length = _length(environ) if is_candidate else 0
        is_candidate = 0 < length <= self._max_body_bytes and _has_key(environ)
        if is_candidate and (body := _read(environ, length)) is not None:
            found = self._find(
                environ["PATH_INFO"],
                body,
                authorization=environ.get("HTTP_AUTHORIZATION", ""),
                request_id=environ.get("HTTP_X_REQUEST_ID", ""),
            )
            if isinstance(found, FastResponse):
                start_response(found.status, found.headers)
                return [found.body]
            environ[EDGE_MISS_KEY] = found
        return self.application(environ, start_response)

    def handle(self, path: str, headers: Mapping[str, str], body: bytes) -> FastResponse | None:
        """Answer a request that gunicorn has not parsed, if its answer is in this process's memory.

        This is a node.fast_path.Handler.
        """
        if not (path == COMPLETIONS or path.startswith(CHAINS)) or not body:
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
        """Say whether Django sends this request to HTTPS, or at least looks whether it must."""
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
        """Return the answer, or the key that nothing is stored under; else None."""
        try:
            known = self._know(path, body, authorization)
            if known is None or known.key is None:
                return None
            principal = find_by_digest(known.secret_digest)
            if SCOPE not in principal.scopes:
                return None
            found = cache.find_near(known.key)
            if found is None and not is_near_only:
                found = cache.find_stored(known.key)
                if found is None:
                    return known.key
            if found is None or not found.is_fresh:
                return None
            return _hit(request_id, principal, known, found)
        except LimitExceeded as error:
            # Django would ask Redis, which hears of hits a little later.
            return refusal(error, request_id)
        except (ApiError, DatabaseError, PoolTimeout):
            # Django says what is wrong, and that the database is away.
            return None

    def _know(self, path: str, body: bytes, authorization: str) -> Known | None:
        """Return what a request stands for now; raises ApiError."""
        raw = raw_digest(authorization, path, body)
        known = self._known.get(raw)
        if known is None:
            return self._remember(raw, _secret_digest(authorization), path, body)
        now = time.monotonic()
        if now - known.checked_at > RECHECK_SECONDS:
            if not _is_current(known):
                return self._remember(raw, known.secret_digest, path, body)
            known.checked_at = now
        return known

    def _remember(
        self, raw: bytes, secret_digest: str | None, path: str, body: bytes
    ) -> Known | None:
        if secret_digest is None:
            return None
        # Nobody without a key has a chain looked for, or anything remembered.
        find_by_digest(secret_digest)
        known = _understand(path, secret_digest, body)
        if known is not None:
            if len(self._known) >= self._max_known:
                self._known.clear()
            self._known[raw] = known
        return known


def _is_candidate(environ: WSGIEnvironment) -> bool:
    path: str = environ["PATH_INFO"]
    return (
        environ["REQUEST_METHOD"] == "POST"
        and (path == COMPLETIONS or path.startswith(CHAINS))
        and not environ.get("QUERY_STRING")
        and "HTTP_CACHE_CONTROL" not in environ
        and "HTTP_TRANSFER_ENCODING" not in environ
        and _is_json(environ.get("CONTENT_TYPE", ""))
    )


def _has_key(environ: WSGIEnvironment) -> bool:
    """Say whether there is a valid key; without one nobody waits for the body before the 401."""
    try:
        digest = _secret_digest(environ.get("HTTP_AUTHORIZATION", ""))
        return digest is not None and bool(find_by_digest(digest))
    except (ApiError, DatabaseError, PoolTimeout):
        return False


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _length(environ: WSGIEnvironment) -> int:
    length = environ.get("CONTENT_LENGTH") or ""
    return int(length) if length.isascii() and length.isdecimal() else 0


def _read(environ: WSGIEnvironment, length: int) -> bytes | None:
    """Read the body, and leave it to be read again; None for one that stalls or breaks off."""
    stream = environ["wsgi.input"]
    try:
        body: bytes = stream.read(length)
    # Django reads on, meets the same fault and tells of it.
    except OSError:
        return None
    if len(body) < length:
        environ["wsgi.input"] = _Partly(body, stream)
        return None
    environ["wsgi.input"] = io.BytesIO(body)
    return body


class _Partly:
    """A body of which the first part was read already."""

    def __init__(self, first: bytes, rest: Any) -> None:
        self._first = first
        self._rest = rest

    def read(self, *size: int) -> bytes:
        """Return the first part, then what the server's stream says."""
        first, self._first = self._first, b""
        return first or self._rest.read(*size)


def _secret_digest(authorization: str) -> str | None:
    """Return the digest of the API key; raises Unauthenticated for one that is none."""
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    return digest_of(secret.strip(" "))


def _is_current(known: Known) -> bool:
    account_id = find_by_digest(known.secret_digest).account_id
    return (
        get_chain(known.slug).config.edition == known.edition
        and _generation(known.slug, account_id) == known.generation
    )


def _generation(slug: str, account_id: UUID) -> str:
    return MARKS.generation(chain=chain_mark(slug), account=account_mark(account_id))


def _understand(path: str, secret_digest: str, body: bytes) -> Known | None:
    """Read a request as JSON; None, or an ApiError, for one that Django must judge."""
    asked = loads(body)
    if not isinstance(asked, dict):
        return None
    if path == COMPLETIONS:
        return _understand_completion(secret_digest, asked)
    if match := INVOKE.fullmatch(path):
        return _understand_invoke(match[1], secret_digest, asked)
    return None


def _understand_completion(secret_digest: str, asked: dict[str, Any]) -> Known | None:
    slug = asked.get("model")
    if not isinstance(slug, str) or len(slug) > MAX_SLUG_CHARS or not _are_irrelevant_good(asked):
        return None
    config = get_chain(slug).config
    is_deterministic = is_deterministic_completion(asked, config)
    # Pacing is the view's.
    is_paced = bool(asked.get("stream") and settings.CACHE_STREAM_EVENTS_PER_SECOND)
    return _known(
        config,
        secret_digest,
        api="completions",
        key_fields=completion_key_fields(asked),
        is_cached=config.cache.applies(is_deterministic=is_deterministic) and not is_paced,
        identity=new_completion_identity,
    )


def _are_irrelevant_good(asked: dict[str, Any]) -> bool:
    """Check what is no part of the key, so that a kept answer does not hide its fault."""
    user, n = asked.get("user"), asked.get("n")
    return (user is None or (isinstance(user, str) and len(user) <= MAX_USER_CHARS)) and (
        n is None or (type(n) is int and n == 1)
    )


def _understand_invoke(slug: str, secret_digest: str, asked: dict[str, Any]) -> Known | None:
    if "input" not in asked or not asked.keys() <= {"input", "config", "kwargs"}:
        return None
    # Django knows what a config may hold.
    if asked.get("kwargs") not in (None, {}) or asked.get("config") not in (None, {}):
        return None
    config = get_chain(slug).config
    is_deterministic = is_deterministic_chain(config)
    return _known(
        config,
        secret_digest,
        api="invoke",
        key_fields=invoke_key_fields(asked["input"], None),
        is_cached=config.cache.applies(is_deterministic=is_deterministic),
        identity=new_invoke_identity,
    )


def _known(
    config: ChainConfig,
    secret_digest: str,
    *,
    api: str,
    key_fields: dict[str, Any],
    is_cached: bool,
    identity: Identity,
) -> Known:
    account_id = find_by_digest(secret_digest).account_id
    generation = _generation(config.slug, account_id)
    key = None
    if is_cached:
        key = request_key(api=api, config=config, account_id=account_id, key_fields=key_fields)
    return Known(secret_digest, config.slug, config.edition, generation, key, identity)


def _hit(request_id: str, principal: Principal, known: Known, found: Found) -> FastResponse:
    """Count the request and return the answer; raises LimitExceeded."""
    limits = count_hit(principal).headers
    entry = found.entry
    hit_counters.count_hit(entry, found.layer)
    body = found.prepared.render(*known.identity())
    headers = [
        ("Content-Type", entry.content_type),
        ("Content-Length", str(len(body))),
        ("x-request-id", request_id_of(request_id)),
        *hit_headers(entry, found.layer).items(),
        *limits.items(),
    ]
    if entry.content_type.startswith("text/event-stream"):
        headers += [("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]
    return FastResponse("200 OK", headers, body)
