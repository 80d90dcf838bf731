"""Answers to reads that come again and again: kept for READ_CACHE_SECONDS, never near.

scaling/response_cache/invalidation.py says how old they may be.
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

# What a view declares whose reads are kept.
READS = CachePolicy(
    mode=CacheMode.ALWAYS
    if settings.CACHE_ENABLED and settings.READ_CACHE_SECONDS
    else CacheMode.OFF,
    ttl_seconds=settings.READ_CACHE_SECONDS,
)
MAX_RECENT = 10_000

Answer = tuple[Any, dict[str, str]]


class Recent:
    """The reads of a process in the last seconds.

    A read that nobody repeats would pay for the store and gain nothing, so only one that comes
    again within its time to live is looked for and kept.
    """

    def __init__(self) -> None:
        self._read_at: dict[str, float] = {}

    def comes_again(self, key: str, seconds: float) -> bool:
        """Note a read; say whether the one before it was less than so long ago."""
        now = time.monotonic()
        if len(self._read_at) >= MAX_RECENT:
            self._read_at.clear()
        before = self._read_at.get(key)
        self._read_at[key] = now
        return before is not None and now - before < seconds


RECENT = Recent()


def read(
    make: Callable[[], Any],
    *,
    policy: CachePolicy,
    subject: str,
    account_id: UUID,
    path: str,
    cache_control: str,
) -> Answer:
    """Return the body of a read of `subject`, and the headers that say where it is from.

    `make` looks into the database; what it raises is raised and not kept. `path` has the query.
    """
    if not policy.applies(is_deterministic=False):
        return make(), bypass_headers("off")
    directives = read_directives(cache_control)
    if directives & {"no-cache", "no-store"}:
        _count("request")
        return make(), miss_headers(is_stored=False, reason="request")
    generation = GENERATIONS.generation(chain="", account=account_counter(account_id))
    key = answer_key("/read", generation, account_id.hex, path)
    if not RECENT.comes_again(key, policy.ttl_seconds) or not TRUST.is_trusted():
        _count("first")
        return make(), miss_headers(is_stored=False)
    started = time.monotonic()
    # The store is waited for.
    release_connections()
    try:
        kept, version = get_store().get_many([key, version_key(subject)])
        if version == INVALIDATING:
            _count("held")
            return make(), miss_headers(is_stored=False)
        if kept and version and (entry := _good(kept, version)):
            _count("hit")
            return orjson.Fragment(entry.body), hit_headers(entry, "store")
        version = version or new_version(subject)
    except StoreUnavailable:
        TRUST.distrust()
        version = None
    _count("miss")
    read_at = CLOCK.now()
    body = orjson.dumps(make())
    is_kept = version is not None and _keep(
        key, version, body, policy.ttl_seconds - (time.monotonic() - started), read_at
    )
    return orjson.Fragment(body), miss_headers(is_stored=is_kept)


def _good(kept: bytes, version: bytes) -> Entry | None:
    if kept[:TOKEN_BYTES] != version:
        return None
    try:
        entry = decode(kept[TOKEN_BYTES:])
    except ValueError:
        return None
    return entry if entry.is_fresh(CLOCK.now()) else None


def _keep(key: str, version: bytes, body: bytes, seconds: float, read_at: float) -> bool:
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
        # What is left since before the database was asked, by this process's own clock.
        get_store().set(key, version + encode(entry), seconds)
    except StoreUnavailable:
        TRUST.distrust()
        return False
    return True


def _count(result: str) -> None:
    metrics.READS.labels(result=result).inc()
