"""Render a cached response for the edge, in front of Django."""

from __future__ import annotations

from access.limits import count_hit
from access.principal import Principal
from chat.caching.cache_status import hit_headers
from chat.caching.parsed_requests import NewIds
from node.fast_path import FastResponse
from node.middleware import request_id_of
from scaling.response_cache import hit_counters
from scaling.response_cache.cache import CachedEntry


def render_hit(
    found: CachedEntry, principal: Principal, *, request_id: str, new_ids: NewIds
) -> FastResponse:
    """Count the request, and return its response; raises LimitExceeded."""
    limits = count_hit(principal).headers
    entry = found.entry
    hit_counters.count_hit(entry, found.layer)
    body = found.template.render(*new_ids())
    headers = [
        ("Content-Type", entry.content_type),
        ("Content-Length", str(len(body))),
        ("x-request-id", request_id_of(request_id)),
        *hit_headers(entry, found.layer).items(),
        *limits.items(),
    ]
    if entry.content_type.startswith("text/event-stream"):
        headers += [("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]
    return FastResponse("200 OK", headers, body)
