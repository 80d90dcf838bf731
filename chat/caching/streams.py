"""Streamed answers: replayed from the cache, or recorded while the chain runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from chat.caching.cache_key import Bypass, Cacheable, CacheDecision
from chat.caching.cache_status import collapsed_headers, hit_headers, miss_headers
from chat.caching.lookup import Fresh, lead_or_wait, look_up
from chat.caching.unary import FreshAnswer, make_entry
from chat.running.run import Run
from chat.running.sse import Events
from scaling.connections import release_connections
from scaling.response_cache import cache, hit_counters
from scaling.response_cache.entry import Entry
from scaling.response_cache.response_template import ResponseTemplate
from scaling.response_cache.results import CacheResult
from scaling.response_cache.single_flight import Leader

EVENT_STREAM = "text/event-stream; charset=utf-8"
BREAK = b"\n\n"


@dataclass(frozen=True, slots=True)
class Replay:
    """The events of a cached answer."""

    events: Events
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """The right to call the chain, and to store the events of its answer."""

    leader: Leader
    request: Cacheable
    headers: dict[str, str]


def find_stream(
    decision: CacheDecision, new_ids: Callable[[], tuple[bytes, ...]]
) -> Replay | Record | Bypass:
    """Return what to stream: a cached answer, one to record, or one that bypasses the cache.

    A stream is replayed while it is fresh only: revalidating one in the background would take a
    client that reads it.
    """
    match decision:
        case Bypass(chain=chain):
            hit_counters.count(chain, CacheResult.BYPASS)
            return decision
        case request:
            release_connections()
            return _find(request, new_ids)


def _find(request: Cacheable, new_ids: Callable[[], tuple[bytes, ...]]) -> Replay | Record:
    match look_up(request):
        case Fresh(found):
            hit_counters.count_hit(found.entry, found.layer)
            events = play(found.template, new_ids())
            return Replay(events, hit_headers(found.entry, found.layer))
        case _:
            leader = lead_or_wait(request)
    if isinstance(leader, Entry):
        hit_counters.count_hit(leader, CacheResult.COLLAPSED)
        return Replay(play(ResponseTemplate.of(leader), new_ids()), collapsed_headers(leader))
    hit_counters.count(request.chain, CacheResult.MISS)
    reason = "miss" if request.may_read else "request"
    return Record(leader, request, miss_headers(is_stored=False, reason=reason))


def play(template: ResponseTemplate, new_ids: tuple[bytes, ...]) -> Events:
    """Yield a cached stream's events, at CACHE_STREAM_EVENTS_PER_SECOND; return the last."""
    events = template.render(*new_ids).split(BREAK)[:-1]
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
    recording: Record,
    run: Run,
    *,
    closing: bytes,
    volatile_texts: Callable[[bytes], tuple[str, ...]],
) -> Events:
    """Yield the events of an answer, and store it if it ends with `closing`.

    A stream that fails, is cut off, may be half of one, or grows beyond CACHE_MAX_ENTRY_BYTES is
    not stored. The leader ends with the events, also when none is ever read.
    """
    recorded = _record(events, recording, run, closing=closing, volatile_texts=volatile_texts)
    # A generator that has not begun would not notice that it is closed.
    next(recorded)
    return recorded


def _record(
    events: Events,
    recording: Record,
    run: Run,
    *,
    closing: bytes,
    volatile_texts: Callable[[bytes], tuple[str, ...]],
) -> Events:
    leader = recording.leader
    recorded_events: list[bytes] = []
    size = 0
    try:
        yield b""
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                last: bytes = end.value
                break
            # A heartbeat shows that this model is slow, which is of no interest later.
            if not event.startswith(b":") and size <= settings.CACHE_MAX_ENTRY_BYTES:
                recorded_events.append(event)
                size += len(event)
            yield event
        is_complete = last == closing and not run.maybe_truncated
        if is_complete and size <= settings.CACHE_MAX_ENTRY_BYTES:
            body = b"".join([*recorded_events, last])
            answer = FreshAnswer(body=body, volatile_texts=volatile_texts(body), usage=run.usage)
            entry = make_entry(answer, recording.request, EVENT_STREAM)
            cache.put(leader.key, entry)
            leader.complete(entry)
        return last
    finally:
        events.close()
        leader.abandon()
