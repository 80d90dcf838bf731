"""Unary answers: from the cache, from an identical request's call, or by a call of the chain."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

import gevent

from access.limits import count_tokens
from access.principal import Principal
from chat.caching.cache_key import Bypass, Cacheable, CacheDecision
from chat.caching.cache_status import bypass_headers, collapsed_headers, hit_headers, miss_headers
from chat.caching.lookup import Fresh, Miss, Stale, fresh_entry, lead_or_wait, look_up
from chat.errors import ClientGone, ServerDraining
from chat.running.execution import Client
from chat.running.run import Run, Usage
from config.api.errors import ApiError
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.response_cache import cache, hit_counters
from scaling.response_cache.cache import CachedEntry
from scaling.response_cache.entry import Entry
from scaling.response_cache.response_template import ResponseTemplate
from scaling.response_cache.results import CacheResult
from scaling.response_cache.single_flight import SINGLE_FLIGHT, Leader

logger = logging.getLogger(__name__)

# How many answers this process revalidates for each key that revalidates any.
_revalidations: Counter[UUID] = Counter()

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshAnswer:
    """An answer that a call computed; `volatile_texts` are those that differ in every response."""

    body: bytes
    volatile_texts: tuple[str, ...]
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedResponse:
    """A body to send, and its cache headers."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRequest:
    """A request, in the form that the cache needs.

    `compute` calls the chain for a client in a run; `new_ids` returns the texts that replace
    `FreshAnswer.volatile_texts` in an answer from the cache.
    """

    decision: CacheDecision
    principal: Principal
    compute: Callable[[Run, Client], FreshAnswer]
    new_ids: Callable[[], tuple[bytes, ...]]


class NullClient:
    """The client of a call that revalidates an answer: it never disconnects."""

    is_gone = False

    @contextmanager
    def watch(self, on_gone: Callable[[], None]) -> Iterator[None]:
        """Watch nothing."""
        yield


def get_or_compute(request: CacheRequest, run: Run, client: Client) -> CachedResponse:
    """Return an answer; raises ApiError as the chain's call does.

    Of identical requests at one time, one calls the chain. A failure is not stored.
    """
    match request.decision:
        case Bypass(chain=chain, reason=reason):
            hit_counters.count(chain, CacheResult.BYPASS)
            body = request.compute(run, client).body
            return CachedResponse(body=body, headers=bypass_headers(reason))
        case cacheable:
            return _answer(request, cacheable, run, client)


def _answer(
    request: CacheRequest, cacheable: Cacheable, run: Run, client: Client
) -> CachedResponse:
    # The wait for Redis, or for a model, needs no connection; others do.
    release_connections()
    match look_up(cacheable):
        case Fresh(found):
            hit_counters.count_hit(found.entry, found.layer)
            return _hit(request, found, found.layer)
        case Stale(found):
            _revalidate(request, cacheable, run)
            hit_counters.count_hit(found.entry, CacheResult.STALE)
            return _hit(request, found, "stale")
        case Miss(expired):
            return _miss(request, cacheable, run, client, expired)


def _miss(
    request: CacheRequest,
    cacheable: Cacheable,
    run: Run,
    client: Client,
    expired: CachedEntry | None,
) -> CachedResponse:
    try:
        # Raises the leader's error when its call failed.
        leader = lead_or_wait(cacheable)
        if isinstance(leader, Entry):
            hit_counters.count_hit(leader, CacheResult.COLLAPSED)
            body = ResponseTemplate.of(leader).render(*request.new_ids())
            return CachedResponse(body=body, headers=collapsed_headers(leader))
        entry, is_stored = _compute(request, cacheable, run, client, leader)
    except ApiError as error:
        if (
            expired is None
            or error.status < 500
            or not expired.entry.may_serve_stale_if_error(CLOCK.now())
        ):
            raise
        hit_counters.count_hit(expired.entry, CacheResult.STALE_ERROR)
        return _hit(request, expired, "stale-if-error")
    hit_counters.count(cacheable.chain, CacheResult.MISS)
    reason = "miss" if cacheable.may_read else "request"
    return CachedResponse(body=entry.body, headers=miss_headers(is_stored=is_stored, reason=reason))


def make_entry(answer: FreshAnswer, cacheable: Cacheable, content_type: str) -> Entry:
    """Return the entry of an answer, fresh from now on."""
    policy = cacheable.policy
    return Entry(
        # orjson's result holds several times its length, and the near cache counts the length.
        body=bytes(memoryview(answer.body)),
        content_type=content_type,
        stored_at=CLOCK.now(),
        fresh_seconds=cache.jittered(policy.ttl_seconds),
        stale_seconds=policy.stale_seconds,
        stale_if_error_seconds=policy.stale_if_error_seconds,
        volatile_texts=answer.volatile_texts,
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        chain=cacheable.chain,
    )


def settle_failure(leader: Leader, error: BaseException) -> None:
    """Fail the requests that wait, or let one of them lead if only this caller was affected."""
    if isinstance(error, ApiError) and not isinstance(error, ClientGone | ServerDraining):
        leader.fail(error)
    else:
        leader.abandon()


def _compute(
    request: CacheRequest, cacheable: Cacheable, run: Run, client: Client, leader: Leader
) -> tuple[Entry, bool]:
    try:
        answer = request.compute(run, client)
        entry = make_entry(answer, cacheable, JSON)
        is_stored = not run.maybe_truncated and cache.put(cacheable.key, entry)
        leader.complete(entry)
    except BaseException as error:
        settle_failure(leader, error)
        raise
    return entry, is_stored


def _revalidate(request: CacheRequest, cacheable: Cacheable, run: Run) -> None:
    """Compute the answer again in the background, unless another request does so already.

    A key has no more revalidations at a time in a process than it may have requests: the request
    that starts one releases its own slot soon.
    """
    key_id = request.principal.key_id
    leader = SINGLE_FLIGHT.try_begin(cacheable.key)
    if leader is None:
        return
    # Another may have revalidated it since this request looked.
    if (entry := fresh_entry(cacheable)) is not None:
        leader.complete(entry)
        return
    most = request.principal.limits.max_concurrent
    if most and _revalidations[key_id] >= most:
        leader.abandon()
        return
    own = Run(timeout_seconds=run.timeout_seconds, options=run.options)
    if own.caller is not None:
        # Cached model calls would compute the old answer again.
        own.caller = replace(own.caller, reads_cached=False)

    def work() -> None:
        try:
            _compute(request, cacheable, own, NullClient(), leader)
        except ApiError as error:
            logger.info("a stale answer of %s was not revalidated: %s", cacheable.chain, error)
        finally:
            _revalidations[key_id] -= 1
            if not _revalidations[key_id]:
                del _revalidations[key_id]
            count_tokens(key_id=key_id, tokens=own.billed_tokens())
            release_connections()

    _revalidations[key_id] += 1
    gevent.spawn(work)


def _hit(request: CacheRequest, found: CachedEntry, detail: str) -> CachedResponse:
    body = found.template.render(*request.new_ids())
    return CachedResponse(body=body, headers=hit_headers(found.entry, detail))
