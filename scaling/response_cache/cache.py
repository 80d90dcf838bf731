"""The two-tier cache of answers: this process's memory first, then the store of all nodes."""

from __future__ import annotations

import functools
import logging
import random
from dataclasses import dataclass

from django.conf import settings

from scaling.database_clock import CLOCK
from scaling.response_cache import hit_counters
from scaling.response_cache.entry import MAX_BODY_BYTES, Entry, decode, encode
from scaling.response_cache.memory_store import MemoryStore
from scaling.response_cache.response_template import ResponseTemplate
from scaling.response_cache.results import CacheResult
from scaling.response_cache.store import StoreUnavailable, get_store

logger = logging.getLogger(__name__)

# Answers that were stored together must not all expire together.
JITTER = 0.1


@dataclass(frozen=True, slots=True)
class CachedEntry:
    """An entry, and the tier that it was found in: `near` or `store`."""

    template: ResponseTemplate
    layer: str

    @property
    def entry(self) -> Entry:
        """The entry."""
        return self.template.entry

    @property
    def is_fresh(self) -> bool:
        """Whether it may be served as it is."""
        return self.template.entry.is_fresh(CLOCK.now())


@functools.cache
def near() -> MemoryStore[ResponseTemplate]:
    """Return the process's near cache."""
    return MemoryStore(
        max_bytes=settings.CACHE_NEAR_MAX_BYTES,
        max_entries=settings.CACHE_NEAR_MAX_ENTRIES,
        max_seconds=settings.CACHE_NEAR_SECONDS,
    )


def find_near(key: str) -> CachedEntry | None:
    """Return a fresh entry of the near cache."""
    template = near().get(key)
    if template is None or not template.entry.is_fresh(CLOCK.now()):
        return None
    return CachedEntry(template, "near")


def find(key: str) -> CachedEntry | None:
    """Return the entry, fresh or not, or None; without the store only from the near cache."""
    return find_near(key) or find_stored(key)


def find_stored(key: str) -> CachedEntry | None:
    """Return the entry of the store, fresh or not; a fresh one is put into the near cache."""
    try:
        (raw,) = get_store().get_many([key])
    except StoreUnavailable:
        hit_counters.count("", CacheResult.ERROR)
        return None
    if raw is None:
        return None
    try:
        entry = decode(raw)
        _check(entry)
    except ValueError as error:
        hit_counters.count("", CacheResult.ERROR)
        logger.warning("an entry of the cache cannot be read: %s", error)
        return None
    return CachedEntry(_put_near(key, entry), "store")


def put(key: str, entry: Entry) -> bool:
    """Store an answer for all nodes; return False if it is too large or the store unavailable."""
    if len(entry.body) > min(settings.CACHE_MAX_ENTRY_BYTES, MAX_BODY_BYTES):
        hit_counters.count(entry.chain, CacheResult.TOO_LARGE)
        return False
    _put_near(key, entry)
    try:
        get_store().set(key, encode(entry), entry.retention_seconds)
    except StoreUnavailable:
        hit_counters.count(entry.chain, CacheResult.ERROR)
        return False
    hit_counters.count(entry.chain, CacheResult.STORED)
    return True


def jittered(seconds: float) -> float:
    """Return a time to live that is up to a tenth shorter."""
    return seconds * (1.0 - JITTER * random.random())  # noqa: S311  (no secret)


def _check(entry: Entry) -> None:
    """Raise ValueError for a content type that is no header, or a negative token count."""
    if not (entry.content_type.isascii() and entry.content_type.isprintable()):
        raise ValueError("an invalid content type")
    if min(entry.prompt_tokens, entry.completion_tokens) < 0:
        raise ValueError("negative token count")


def _put_near(key: str, entry: Entry) -> ResponseTemplate:
    template = ResponseTemplate.of(entry)
    seconds = min(settings.CACHE_NEAR_SECONDS, entry.freshness_left(CLOCK.now()))
    if seconds > 0:
        near().put(key, template, template.size, seconds)
    return template
