"""Find and keep answers: in this process first, then in the store that all nodes share."""

from __future__ import annotations

import functools
import logging
import random
from dataclasses import dataclass

from django.conf import settings

from scaling.database_clock import CLOCK
from scaling.response_cache import hit_counters
from scaling.response_cache.entry import MAX_BODY_BYTES, Entry, decode, encode
from scaling.response_cache.memory_store import NearStore
from scaling.response_cache.response_template import Prepared
from scaling.response_cache.results import CacheResult
from scaling.response_cache.store import StoreUnavailable, get_store

logger = logging.getLogger(__name__)

# Answers that were stored together must not all run out together.
JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and the layer that had it: `near` or `store`."""

    prepared: Prepared
    layer: str

    @property
    def entry(self) -> Entry:
        """The entry."""
        return self.prepared.entry

    @property
    def is_fresh(self) -> bool:
        """Whether it may be given without asking anybody."""
        return self.prepared.entry.is_fresh(CLOCK.now())


@functools.cache
def near() -> NearStore[Prepared]:
    """Return the process's near cache."""
    return NearStore(
        max_bytes=settings.CACHE_NEAR_MAX_BYTES,
        max_entries=settings.CACHE_NEAR_MAX_ENTRIES,
        max_seconds=settings.CACHE_NEAR_SECONDS,
    )


def find_near(key: str) -> Found | None:
    """Return a fresh entry that this process remembers."""
    prepared = near().get(key)
    if prepared is None or not prepared.entry.is_fresh(CLOCK.now()):
        return None
    return Found(prepared, "near")


def find(key: str) -> Found | None:
    """Return the entry, fresh or not, or None; without the store only what is near."""
    return find_near(key) or find_stored(key)


def find_stored(key: str) -> Found | None:
    """Return the entry of the store, fresh or not, and remember it while it is fresh."""
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
    return Found(_remember(key, entry), "store")


def keep(key: str, entry: Entry) -> bool:
    """Store an answer for all nodes; False if it is too large or the store is away."""
    if len(entry.body) > min(settings.CACHE_MAX_ENTRY_BYTES, MAX_BODY_BYTES):
        hit_counters.count(entry.chain, CacheResult.TOO_LARGE)
        return False
    _remember(key, entry)
    try:
        get_store().set(key, encode(entry), entry.keep_seconds)
    except StoreUnavailable:
        hit_counters.count(entry.chain, CacheResult.ERROR)
        return False
    hit_counters.count(entry.chain, CacheResult.STORED)
    return True


def jittered(seconds: float) -> float:
    """Return a time to live that is up to a tenth shorter."""
    return seconds * (1.0 - JITTER * random.random())  # noqa: S311  (no secret)


def _check(entry: Entry) -> None:
    """Raise ValueError for what no answer has: a type that is no header, tokens below none."""
    if not (entry.content_type.isascii() and entry.content_type.isprintable()):
        raise ValueError("an invalid content type")
    if min(entry.prompt_tokens, entry.completion_tokens) < 0:
        raise ValueError("negative token count")


def _remember(key: str, entry: Entry) -> Prepared:
    prepared = Prepared.of(entry)
    seconds = min(settings.CACHE_NEAR_SECONDS, entry.freshness_left(CLOCK.now()))
    if seconds > 0:
        near().put(key, prepared, prepared.size, seconds)
    return prepared
