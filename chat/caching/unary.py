"""Answers that are given whole: from the cache, from another request's call, or by a call."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

import gevent
from django.conf import settings

from access.limits import count_tokens
from access.principal import Principal
from chat.caching.cache_key import Plan
from chat.caching.cache_status import bypass_headers, collapsed_headers, hit_headers, miss_headers
from chat.errors import ClientGone, ServerDraining
from chat.running.execution import Client
from chat.running.run import Run, Usage
from config.api.errors import ApiError
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.response_cache import cache, hit_counters
from scaling.response_cache.cache import Found
from scaling.response_cache.entry import Entry
from scaling.response_cache.response_template import Prepared
from scaling.response_cache.single_flight import FLIGHTS, Lead

logger = logging.getLogger(__name__)

# How many answers this process renews for each key that renews any.
_renewing: Counter[UUID] = Counter()

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An answer that a call made, and the texts in it that are its own."""

    body: bytes
    renewed: tuple[str, ...]
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is sent."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request, as far as the cache must know it.

    `make` calls the chain for a client in a run; `identity` gives the texts that stand for
    `Made.renewed` in an answer from the cache.
    """

    plan: Plan
    principal: Principal
    make: Callable[[Run, Client], Made]
    identity: Callable[[], tuple[bytes, ...]]


class Nobody:
    """The client of a call that renews an answer: it never goes away."""

    is_gone = False

    @contextmanager
    def watch(self, on_gone: Callable[[], None]) -> Iterator[None]:
        """Watch nothing."""
        yield


def answer(question: Question, run: Run, client: Client) -> Given:
    """Return an answer; raises ApiError as the chain's call does.

    However many ask the same at once, one calls the chain. What fails is not stored.
    """
    plan = question.plan
    if plan.key is None:
        hit_counters.note(plan.chain, "bypass")
        return Given(body=question.make(run, client).body, headers=bypass_headers(plan.why))
    # A hit waits for Redis, and a call for a model; others need the connection.
    release_connections()
    found = cache.find(plan.key) if plan.may_read and not plan.is_missing else None
    if found is not None:
        now = CLOCK.now()
        if found.entry.is_fresh(now):
            hit_counters.note_hit(found.entry, found.layer)
            return _hit(question, found, found.layer)
        if found.entry.may_be_served_stale(now):
            _renew(question, run)
            hit_counters.note_hit(found.entry, "stale")
            return _hit(question, found, "stale")
    try:
        # Also what another's call failed with.
        lead = _join(plan)
        if isinstance(lead, Entry):
            hit_counters.note_hit(lead, "collapsed")
            body = Prepared.of(lead).render(*question.identity())
            return Given(body=body, headers=collapsed_headers(lead))
        entry, is_stored = _call(question, run, client, lead)
    except ApiError as error:
        if found is None or error.status < 500 or not found.entry.may_stand_in(CLOCK.now()):
            raise
        hit_counters.note_hit(found.entry, "stale_error")
        return _hit(question, found, "stale-if-error")
    hit_counters.note(plan.chain, "miss")
    reason = "miss" if plan.may_read else "request"
    return Given(body=entry.body, headers=miss_headers(is_stored=is_stored, reason=reason))


def entry_of(made: Made, plan: Plan, content_type: str) -> Entry:
    """Return the entry for an answer, fresh from now on."""
    policy = plan.policy
    return Entry(
        body=made.body,
        content_type=content_type,
        stored_at=CLOCK.now(),
        fresh_seconds=cache.jittered(policy.ttl_seconds),
        stale_seconds=policy.stale_seconds,
        stale_if_error_seconds=policy.stale_if_error_seconds,
        renewed=made.renewed,
        prompt_tokens=made.usage.prompt_tokens,
        completion_tokens=made.usage.completion_tokens,
        chain=plan.chain,
    )


def end_badly(lead: Lead, error: BaseException) -> None:
    """Give a failure to those who wait; what befell only this caller, to nobody: another calls."""
    if isinstance(error, ApiError) and not isinstance(error, ClientGone | ServerDraining):
        lead.fail(error)
    else:
        lead.abandon()


def fresh_of(plan: Plan) -> Entry | None:
    """Return the fresh entry, if it has come meanwhile."""
    assert plan.key is not None  # noqa: S101  (asked only for what is cached)
    found = cache.find(plan.key)
    return found.entry if found is not None and found.entry.is_fresh(CLOCK.now()) else None


def _join(plan: Plan) -> Entry | Lead:
    assert plan.key is not None  # noqa: S101  (asked only for what is cached)
    if not plan.may_read:
        # The client wants an answer of its own, and waits for nobody.
        return Lead(FLIGHTS, plan.key, is_alone=True)
    return FLIGHTS.join(
        plan.key, find=lambda: fresh_of(plan), wait_seconds=settings.CACHE_WAIT_SECONDS
    )


def _call(question: Question, run: Run, client: Client, lead: Lead) -> tuple[Entry, bool]:
    plan = question.plan
    assert plan.key is not None  # noqa: S101  (asked only for what is cached)
    try:
        made = question.make(run, client)
        entry = entry_of(made, plan, JSON)
        is_stored = not run.is_doubtful and cache.keep(plan.key, entry)
        lead.complete(entry)
    except BaseException as error:
        end_badly(lead, error)
        raise
    return entry, is_stored


def _renew(question: Question, run: Run) -> None:
    """Have the answer made anew in the background, unless somebody does so already.

    A key has no more renewals at a time in a process than it may have requests: the request that
    wants one gives its own place back soon.
    """
    plan, key_id = question.plan, question.principal.key_id
    assert plan.key is not None  # noqa: S101  (asked only for what is cached)
    lead = FLIGHTS.try_lead(plan.key)
    if lead is None:
        return
    # Another may have renewed it since this request looked.
    if (entry := fresh_of(plan)) is not None:
        lead.complete(entry)
        return
    most = question.principal.limits.max_concurrent
    if most and _renewing[key_id] >= most:
        lead.abandon()
        return
    renewing = Run(timeout_seconds=run.timeout_seconds, options=run.options)
    if renewing.caller is not None:
        # Kept model calls would make the old answer again.
        renewing.caller = replace(renewing.caller, reads_kept=False)

    def work() -> None:
        try:
            _call(question, renewing, Nobody(), lead)
        except ApiError as error:
            logger.info("a stale answer of %s was not renewed: %s", plan.chain, error)
        finally:
            _renewing[key_id] -= 1
            if not _renewing[key_id]:
                del _renewing[key_id]
            count_tokens(key_id=key_id, tokens=renewing.billed_tokens())
            release_connections()

    _renewing[key_id] += 1
    gevent.spawn(work)


def _hit(question: Question, found: Found, detail: str) -> Given:
    body = found.prepared.render(*question.identity())
    return Given(body=body, headers=hit_headers(found.entry, detail))
