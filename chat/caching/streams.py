"""Answers that are streamed: played back from the cache, or recorded while they are made."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.conf import settings

from chat.caching.cache_key import Plan
from chat.caching.cache_status import bypass_headers, collapsed_headers, hit_headers, miss_headers
from chat.caching.unary import Made, entry_of, fresh_of
from chat.running.run import Run
from chat.running.sse import Events
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.response_cache import cache, hit_counters
from scaling.response_cache.entry import Entry
from scaling.response_cache.response_template import Prepared
from scaling.response_cache.single_flight import FLIGHTS, Lead

EVENT_STREAM = "text/event-stream; charset=utf-8"
BREAK = b"\n\n"


def find_stream(
    plan: Plan, identity: Callable[[], tuple[bytes, ...]]
) -> tuple[Events | Lead | None, dict[str, str]]:
    """Return the events of a kept answer, or the right to make one; and the headers that say so.

    None means that the cache has nothing to do with this request. A stream is given while it is
    fresh only: renewing one in the background would take a client that reads it.
    """
    if plan.key is None:
        hit_counters.note(plan.chain, "bypass")
        return None, bypass_headers(plan.why)
    release_connections()
    if not plan.may_read:
        hit_counters.note(plan.chain, "miss")
        lead = Lead(FLIGHTS, plan.key, is_alone=True)
        return lead, miss_headers(is_stored=False, reason="request")
    found = None if plan.is_missing else cache.find(plan.key)
    if found is not None and found.entry.is_fresh(CLOCK.now()):
        hit_counters.note_hit(found.entry, found.layer)
        events = play(found.prepared, identity())
        return events, hit_headers(found.entry, found.layer)
    joined = FLIGHTS.join(
        plan.key, find=lambda: fresh_of(plan), wait_seconds=settings.CACHE_WAIT_SECONDS
    )
    if isinstance(joined, Entry):
        hit_counters.note_hit(joined, "collapsed")
        return play(Prepared.of(joined), identity()), collapsed_headers(joined)
    hit_counters.note(plan.chain, "miss")
    return joined, miss_headers(is_stored=False)


def play(prepared: Prepared, identity: tuple[bytes, ...]) -> Events:
    """Yield a kept stream's events, at CACHE_STREAM_EVENTS_PER_SECOND, and return the last."""
    events = prepared.render(*identity).split(BREAK)[:-1]
    last = events.pop() + BREAK
    pace = settings.CACHE_STREAM_EVENTS_PER_SECOND
    if pace:
        for event in events:
            yield event + BREAK
            time.sleep(1 / pace)
    elif events:
        yield BREAK.join(events) + BREAK
    return last


def record(
    events: Events,
    lead: Lead,
    plan: Plan,
    run: Run,
    *,
    closing: bytes,
    renewed: Callable[[bytes], tuple[str, ...]],
) -> Events:
    """Yield the events of an answer that is being made, and keep it if it ends with `closing`.

    A stream that fails, is cut off, may be half of one, or grows beyond CACHE_MAX_ENTRY_BYTES is
    not kept. The lead ends with the events, also when nobody ever reads one.
    """
    recording = _record(events, lead, plan, run, closing=closing, renewed=renewed)
    # A generator that has not begun would not notice that it is closed.
    next(recording)
    return recording


def _record(
    events: Events,
    lead: Lead,
    plan: Plan,
    run: Run,
    *,
    closing: bytes,
    renewed: Callable[[bytes], tuple[str, ...]],
) -> Events:
    pieces: list[bytes] = []
    size = 0
    try:
        yield b""
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                last: bytes = end.value
                break
            # A heartbeat says that this model is slow, which is of no interest later.
            if not event.startswith(b":") and size <= settings.CACHE_MAX_ENTRY_BYTES:
                pieces.append(event)
                size += len(event)
            yield event
        is_whole = last == closing and not run.is_doubtful
        if is_whole and size <= settings.CACHE_MAX_ENTRY_BYTES:
            body = b"".join([*pieces, last])
            made = Made(body=body, renewed=renewed(body), usage=run.usage)
            entry = entry_of(made, plan, EVENT_STREAM)
            cache.keep(lead.key, entry)
            lead.complete(entry)
        return last
    finally:
        events.close()
        lead.abandon()
