"""Look up a cacheable request: the decision that unary and streamed answers share."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from chat.caching.cache_key import Cacheable
from scaling.database_clock import CLOCK
from scaling.response_cache import cache
from scaling.response_cache.cache import CachedEntry
from scaling.response_cache.entry import Entry
from scaling.response_cache.single_flight import SINGLE_FLIGHT, Leader


@dataclass(frozen=True, slots=True)
class Fresh:
    """A cached answer to send as it is."""

    found: CachedEntry


@dataclass(frozen=True, slots=True)
class Stale:
    """A cached answer that may be sent while a request revalidates it."""

    found: CachedEntry


@dataclass(frozen=True, slots=True)
class Miss:
    """No cached answer to send; `expired` may still be served if the provider fails."""

    expired: CachedEntry | None = None


Lookup = Fresh | Stale | Miss


def look_up(request: Cacheable) -> Lookup:
    """Return the result of a request's lookup."""
    if not request.may_read or request.edge_missed:
        return Miss()
    found = cache.find(request.key)
    if found is None:
        return Miss()
    now = CLOCK.now()
    if found.entry.is_fresh(now):
        return Fresh(found)
    if found.entry.may_serve_stale_while_revalidate(now):
        return Stale(found)
    return Miss(expired=found)


def lead_or_wait(request: Cacheable) -> Entry | Leader:
    """Return the answer of an identical request that is under way, or the right to call the chain.

    Waits for CACHE_WAIT_SECONDS at most. Raises the error of this process's leader.
    """
    if not request.may_read:
        # The client wants an answer of its own.
        return Leader(SINGLE_FLIGHT, request.key, is_alone=True)
    return SINGLE_FLIGHT.do(
        request.key,
        find=lambda: fresh_entry(request),
        wait_seconds=settings.CACHE_WAIT_SECONDS,
    )


def fresh_entry(request: Cacheable) -> Entry | None:
    """Return the fresh entry of a request, if there is one by now."""
    found = cache.find(request.key)
    return found.entry if found is not None and found.entry.is_fresh(CLOCK.now()) else None
