"""Parse the requests that the edge may answer, and memoize the results by the requests' bytes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from access.services import digest_of, find_by_digest
from chat.caching.cache_key import (
    completion_key_fields,
    invoke_key_fields,
    is_deterministic_chain,
    is_deterministic_completion,
    request_key,
)
from chat.caching.response_ids import new_completion_ids, new_invoke_ids
from chat.chains.catalog import get_chain
from chat.chains.config import ChainConfig
from config.api.json import loads
from config.api.paths import COMPLETIONS
from scaling.response_cache.generations import GENERATIONS, account_counter, chain_counter
from scaling.response_cache.keys import raw_digest

INVOKE = re.compile(r"/chains/([-a-zA-Z0-9_]{1,64})/invoke")
# For so long a change of the chain or of a generation goes unnoticed; comparing them each time is
# a tenth of a hit.
RECHECK_SECONDS = 0.02
MAX_SLUG_CHARS = 64
MAX_USER_CHARS = 512

NewIds = Callable[[], tuple[bytes, ...]]


@dataclass(slots=True)
class ParsedRequest:
    """A request's meaning, valid while its chain and the generations stay as they are.

    `key` is None for a request that is not cached. `secret_digest` is the API key's.
    """

    secret_digest: str
    slug: str
    chain_revision: tuple[int | None, int]
    generation: str
    key: str | None
    new_ids: NewIds
    # When chain and generations were last compared, by the monotonic clock.
    checked_at: float = 0.0


class ParsedRequests:
    """The requests that this process parsed, by their bytes, at most CACHE_NEAR_MAX_ENTRIES."""

    def __init__(self) -> None:
        # Read here, because each look at the settings costs a request half a microsecond.
        self._max_entries: int = settings.CACHE_NEAR_MAX_ENTRIES
        self._by_digest: dict[bytes, ParsedRequest] = {}

    def __len__(self) -> int:
        return len(self._by_digest)

    def lookup(self, path: str, body: bytes, authorization: str) -> ParsedRequest | None:
        """Return the parsed request; None for one that Django must judge. Raises ApiError."""
        digest = raw_digest(authorization, path, body)
        parsed = self._by_digest.get(digest)
        if parsed is None:
            return self._memoize(digest, read_secret_digest(authorization), path, body)
        now = time.monotonic()
        if now - parsed.checked_at > RECHECK_SECONDS:
            if not _is_current(parsed):
                return self._memoize(digest, parsed.secret_digest, path, body)
            parsed.checked_at = now
        return parsed

    def _memoize(
        self, digest: bytes, secret_digest: str | None, path: str, body: bytes
    ) -> ParsedRequest | None:
        if secret_digest is None:
            return None
        # A request without a valid key loads no chain and takes no memory.
        find_by_digest(secret_digest)
        parsed = _parse(path, secret_digest, body)
        if parsed is not None:
            if len(self._by_digest) >= self._max_entries:
                self._by_digest.clear()
            self._by_digest[digest] = parsed
        return parsed


def read_secret_digest(authorization: str) -> str | None:
    """Return the digest of the API key in a header; raises Unauthenticated for a malformed key."""
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    return digest_of(secret.strip(" "))


def _is_current(parsed: ParsedRequest) -> bool:
    account_id = find_by_digest(parsed.secret_digest).account_id
    return (
        get_chain(parsed.slug).config.revision == parsed.chain_revision
        and _generation(parsed.slug, account_id) == parsed.generation
    )


def _generation(slug: str, account_id: UUID) -> str:
    return GENERATIONS.generation(chain=chain_counter(slug), account=account_counter(account_id))


def _parse(path: str, secret_digest: str, body: bytes) -> ParsedRequest | None:
    """Parse a request's JSON; None, or an ApiError, for a request that Django must judge."""
    fields = loads(body)
    if not isinstance(fields, dict):
        return None
    if path == COMPLETIONS:
        return _parse_completion(secret_digest, fields)
    if match := INVOKE.fullmatch(path):
        return _parse_invoke(match[1], secret_digest, fields)
    return None


def _parse_completion(secret_digest: str, fields: dict[str, Any]) -> ParsedRequest | None:
    slug = fields.get("model")
    if not isinstance(slug, str) or len(slug) > MAX_SLUG_CHARS or not _ignored_fields_valid(fields):
        return None
    config = get_chain(slug).config
    is_deterministic = is_deterministic_completion(fields, config)
    # Pacing is the view's.
    is_paced = bool(fields.get("stream") and settings.CACHE_STREAM_EVENTS_PER_SECOND)
    return _parsed(
        config,
        secret_digest,
        api="completions",
        key_fields=completion_key_fields(fields),
        is_cached=config.cache.applies(is_deterministic=is_deterministic) and not is_paced,
        new_ids=new_completion_ids,
    )


def _ignored_fields_valid(fields: dict[str, Any]) -> bool:
    """Check the fields that are no part of the key, so that a hit does not hide their fault."""
    user, n = fields.get("user"), fields.get("n")
    return (user is None or (isinstance(user, str) and len(user) <= MAX_USER_CHARS)) and (
        n is None or (type(n) is int and n == 1)
    )


def _parse_invoke(slug: str, secret_digest: str, fields: dict[str, Any]) -> ParsedRequest | None:
    if "input" not in fields or not fields.keys() <= {"input", "config", "kwargs"}:
        return None
    # The view validates what a config may hold.
    if fields.get("kwargs") not in (None, {}) or fields.get("config") not in (None, {}):
        return None
    config = get_chain(slug).config
    is_deterministic = is_deterministic_chain(config)
    return _parsed(
        config,
        secret_digest,
        api="invoke",
        key_fields=invoke_key_fields(fields["input"], None),
        is_cached=config.cache.applies(is_deterministic=is_deterministic),
        new_ids=new_invoke_ids,
    )


def _parsed(
    config: ChainConfig,
    secret_digest: str,
    *,
    api: str,
    key_fields: dict[str, Any],
    is_cached: bool,
    new_ids: NewIds,
) -> ParsedRequest:
    account_id = find_by_digest(secret_digest).account_id
    generation = _generation(config.slug, account_id)
    key = None
    if is_cached:
        key = request_key(api=api, config=config, account_id=account_id, key_fields=key_fields)
    return ParsedRequest(secret_digest, config.slug, config.revision, generation, key, new_ids)
