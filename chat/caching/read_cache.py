"""A cache of repeated reads: for READ_CACHE_SECONDS, in the shared store alone.

scaling/response_cache/invalidation.py states how old they may be.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings

from chat import metrics
from chat.caching.cache_key import read_directives
from chat.caching.cache_status import bypass_headers, hit_headers, miss_headers
from config import exact_json
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.response_cache.entry import Entry, decode, encode
from scaling.response_cache.generations import GENERATIONS, account_counter
from scaling.response_cache.invalidation import (
    INVALIDATING,
    TOKEN_BYTES,
    TRUST,
    new_version,
    version_key,
)
from scaling.response_cache.keys import answer_key
from scaling.response_cache.policy import CacheMode, CachePolicy
from scaling.response_cache.store import StoreUnavailable, get_store

# The policy of a view whose reads are cached.
READ_CACHE_POLICY = CachePolicy(
    mode=CacheMode.ALWAYS
    if settings.CACHE_ENABLED and settings.READ_CACHE_SECONDS
    else CacheMode.OFF,
    ttl_seconds=settings.READ_CACHE_SECONDS,
)
MAX_RECENT = 10_000

Answer = tuple[Any, dict[str, str]]


class RecentReads:
    """The reads of a process in the last seconds.

    A read that is not repeated would pay for the store and gain nothing, so only one that comes
    again within its time to live is looked up and cached.
    """

    def __init__(self) -> None:
        self._read_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._read_at)

    def seen_within(self, key: str, seconds: float) -> bool:
        """Record a read; return whether the last one before it was less than so long ago."""
        now = time.monotonic()
        if len(self._read_at) >= MAX_RECENT:
            self._read_at.clear()
        before = self._read_at.get(key)
        self._read_at[key] = now
        return before is not None and now - before < seconds


RECENT_READS = RecentReads()


def read(
    make: Callable[[], Any],
    *,
    policy: CachePolicy,
    subject: str,
    account_id: UUID,
    path: str,
    cache_control: str,
) -> Answer:
    """Return the body of a read of `subject`, and the headers that state its source.

    `make` reads from the database; its errors are raised and not cached. `path` has the query.
    """
    if not policy.applies(is_deterministic=False):
        return make(), bypass_headers("off")
    directives = read_directives(cache_control)
    if directives & {"no-cache", "no-store"}:
        _count("request")
        return make(), miss_headers(is_stored=False, reason="request")
    generation = GENERATIONS.generation(chain="", account=account_counter(account_id))
    key = answer_key("/read", generation, account_id.hex, path)
    if not RECENT_READS.seen_within(key, policy.ttl_seconds) or not TRUST.is_trusted():
        _count("first")
        return make(), miss_headers(is_stored=False)
    started = time.monotonic()
    # Waiting for the store needs no connection.
    release_connections()
    try:
        cached, version = get_store().get_many([key, version_key(subject)])
        if version == INVALIDATING:
            _count("held")
            return make(), miss_headers(is_stored=False)
        if cached and version and (entry := _decode_fresh(cached, version)):
            _count("hit")
            return orjson.Fragment(entry.body), hit_headers(entry, "store")
        version = version or new_version(subject)
    except StoreUnavailable:
        TRUST.distrust()
        version = None
    _count("miss")
    read_at = CLOCK.now()
    body = exact_json.dumps(make())
    is_stored = version is not None and _store(
        key, version, body, policy.ttl_seconds - (time.monotonic() - started), read_at
    )
    return orjson.Fragment(body), miss_headers(is_stored=is_stored)


def _decode_fresh(cached: bytes, version: bytes) -> Entry | None:
    if cached[:TOKEN_BYTES] != version:
        return None
    try:
        entry = decode(cached[TOKEN_BYTES:])
    except ValueError:
        return None
    return entry if entry.is_fresh(CLOCK.now()) else None


def _store(key: str, version: bytes, body: bytes, seconds: float, read_at: float) -> bool:
    if seconds <= 0 or len(body) > settings.CACHE_MAX_ENTRY_BYTES:
        return False
    release_connections()
    entry = Entry(
        body=body,
        content_type="application/json",
        stored_at=read_at,
        fresh_seconds=seconds,
        stale_seconds=0,
        stale_if_error_seconds=0,
        volatile_texts=(),
        prompt_tokens=0,
        completion_tokens=0,
        chain="",
    )
    try:
        # The time left since before the query, by this process's own clock.
        get_store().set(key, version + encode(entry), seconds)
    except StoreUnavailable:
        TRUST.distrust()
        return False
    return True


def _count(result: str) -> None:
    metrics.READS.labels(result=result).inc()
